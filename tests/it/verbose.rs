//! `-v` evidence, `-vv` requests, `-vvv` debug: of every command.

use regex_lite::Regex;

use crate::kit::{World, join};

/// Lines that tell of a request: to an API server, to AWS, for a chart.
fn requests(text: &str) -> usize {
    let request = Regex::new(
        r"(?m)^ *[0-9.]+s +DEBUG (?:eks-\d: [A-Z]+ /\S* ?.*: \d{3} in \d+ ms|AWS: \w+:\w+ in .*|chart \w+ .*: .*)$",
    );
    request.unwrap().find_iter(text).count()
}

#[test]
fn every_command_tells_of_its_requests() {
    let world = World::new(2);
    let mut without = vec![];
    for args in [
        "plan eks-1 eks-2",
        &join(2),
        "status",
        "verify",
        "verify --traffic --yes",
        "ca status",
        "wait nlb",
        "sample up",
        "sample status",
        "sample call",
        "sample down",
        "render eks-1 eks-2 --out out",
        "plan leave eks-2 --uninstall",
        "leave eks-2 --uninstall --yes",
    ] {
        let quiet = world.run(&format!("{args} -v"));
        assert_eq!(requests(&quiet.stderr), 0, "{args} -v: {quiet}");
        let told = world.run(&format!("{args} -vv"));
        if requests(&told.stderr) == 0 {
            without.push(format!("{args}: {told}"));
        }
    }
    let charts = world.endpoints().charts.clone();
    for args in [
        "template a istiod",
        "values istiod",
        "images istiod",
        "pull istiod",
        "lock istiod",
    ] {
        let told = world.user.run(&format!("chart {args} --repo {charts} -vv"));
        if requests(&told.stderr) == 0 {
            without.push(format!("chart {args}: {told}"));
        }
    }
    assert!(without.is_empty(), "{}", without.join("\n"));
}
