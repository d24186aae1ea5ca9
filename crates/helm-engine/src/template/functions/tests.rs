//! Every function by what a template prints; the expected text is what Helm prints.

use crate::{Capabilities, Chart, Error, File, Options, Release, Rendered, render_with};
use serde_json::{Value, json};

/// Renders one template as `NOTES.txt`, beside some partials.
pub(crate) fn notes(template: &str, values: &Value) -> Result<String, Error> {
    rendered(&[("NOTES.txt", template)], values).map(|rendered| rendered.notes)
}

pub(crate) fn rendered(templates: &[(&str, &str)], values: &Value) -> Result<Rendered, Error> {
    let options = Options {
        now: Some(1_136_239_445),
        allow_random: true,
        ..Options::default()
    };
    rendered_with(templates, values, &options)
}

pub(super) fn rendered_with(
    templates: &[(&str, &str)],
    values: &Value,
    options: &Options<'_>,
) -> Result<Rendered, Error> {
    let mut files = vec![
        File { name: "Chart.yaml".into(), data: b"name: app\nversion: 1.2.3\nappVersion: '9'\napiVersion: v2\nkeywords: [a]\nmaintainers: [{name: jo}]\n".to_vec() },
        File { name: "files/a.txt".into(), data: b"one\ntwo\n".to_vec() },
        File { name: "files/b.txt".into(), data: b"b".to_vec() },
    ];
    files.extend(templates.iter().map(|(name, text)| File {
        name: format!("templates/{name}"),
        data: text.as_bytes().to_vec(),
    }));
    let chart = Chart::from_files(files, "test")?;
    let release = Release {
        name: "rel",
        namespace: "ns",
        revision: 2,
        is_upgrade: true,
    };
    render_with(
        &chart,
        values,
        &release,
        &Capabilities {
            kube_version: "v1.34.2-eks-1".into(),
            ..Capabilities::default()
        },
        options,
    )
}

fn check(cases: &[(&str, &str)]) {
    let values = json!({
        "n": 5.0, "million": 1_000_000.0, "set": 7, "text": "hello", "flag": true, "none": null, "list": ["b", "a", "b", null, 1.0],
        "map": {"b": 1.0, "a": {"x": "y"}}, "empty": {"list": [], "map": {}, "text": ""}, "lines": "one\ntwo\n",
    });
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(template, expected)| {
            let printed = notes(template, &values).unwrap_or_else(|error| format!("ERROR {error}"));
            (printed != *expected)
                .then(|| format!("{template}\n  printed  {printed:?}\n  expected {expected:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check_errors(cases: &[(&str, &str)]) {
    for (template, expected) in cases {
        let error = notes(template, &json!({"n": 5.0, "text": "x", "map": {}}))
            .expect_err(template)
            .to_string();
        assert!(error.contains(expected), "{template}: {error}");
    }
}

#[test]
fn the_language() {
    check(&[
        ("{{ .Values.text }}{{- /* c */ -}} x", "hellox"),
        ("a {{- /* c */}} b", "a b"),
        (
            "{{ if and .Values.flag (not .Values.none) }}y{{ else if .Values.x }}n{{ else }}z{{ end }}",
            "y",
        ),
        ("{{ with .Values.map }}{{ .a.x }}{{ else }}no{{ end }}", "y"),
        ("{{ with .Values.none }}{{ .a }}{{ else }}no{{ end }}", "no"),
        (
            "{{ range .Values.list }}[{{ . }}]{{ end }}",
            "[b][a][b][][1]",
        ),
        (
            "{{ range $k, $v := .Values.map }}{{ $k }}={{ $v }};{{ end }}",
            "a=map[x:y];b=1;",
        ),
        (
            "{{ range $i, $v := list 1 2 }}{{ $i }}{{ $v }} {{ else }}none{{ end }}",
            "01 12 ",
        ),
        (
            "{{ range .Values.empty.list }}x{{ else }}none{{ end }}",
            "none",
        ),
        ("{{ range 3 }}{{ . }}{{ end }}", "012"),
        (
            "{{ range until 5 }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ if eq . 3 }}{{ break }}{{ end }}{{ . }}{{ end }}",
            "02",
        ),
        (
            "{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $y := 3 }}{{ $y }}{{ end }}{{ $x }}",
            "32",
        ),
        (
            "{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ end }}{{ $x }}",
            "1",
        ),
        (
            "{{ define \"t\" }}<{{ . }}>{{ end }}{{ template \"t\" .Values.text }}{{ include \"t\" 1 | upper }}",
            "<hello><1>",
        ),
        ("{{ block \"b\" .Values.n }}{{ . }}{{ end }}", "5"),
        (
            "{{ .Values.none }}|{{ .Values.missing }}|{{ (.Values.missing).deep.er }}|",
            "|||",
        ),
        ("{{ $m := .Values.missing }}{{ $m.deep.er }}", ""),
        (
            "{{ .Values.million }} {{ .Values.set }} {{ int .Values.million }} {{ 1.5e3 }} {{ 'a' }}",
            "1e+06 7 1000000 1500 97",
        ),
        ("{{ `raw \\n` }}{{ \"q\\t\" }}", "raw \\nq\t"),
        ("{{ print 1 2 \"a\" 3 nil }}", "1 2a3 <nil>"),
        ("{{ println 1 \"a\" }}", "1 a\n"),
        (
            "{{ .Values.list }} {{ .Values.map }}",
            "[b a b <nil> 1] map[a:map[x:y] b:1]",
        ),
        ("{{ and 0 1 }}{{ or 0 \"\" 2 3 }}{{ 1 | and true }}", "021"),
        (
            "{{ len .Values.list }}{{ len .Values.map }}{{ len \"é\" }}",
            "522",
        ),
        (
            "{{ index .Values.list 1 }}{{ index .Values.map \"a\" \"x\" }}",
            "ay",
        ),
        (
            "{{ eq .Values.text \"x\" \"hello\" }}{{ ne 1 2 }}{{ lt 1 2 }}{{ le \"a\" \"a\" }}{{ gt 2.5 1.5 }}{{ ge 1 2 }}{{ eq nil .Values.none }}",
            "truetruetruetruetruefalsetrue",
        ),
    ]);
    check_errors(&[
        (
            "{{ .Values.missing.deep }}",
            "nil pointer evaluating interface {}.deep",
        ),
        (
            "{{ range list nil }}{{ .x }}{{ end }}",
            "nil pointer evaluating interface {}.x",
        ),
        (
            "{{ .Values.text.x }}",
            "can't evaluate field x in type string",
        ),
        ("{{ eq .Values.n 5 }}", "incompatible types for comparison"),
        (
            "{{ range .Values.text }}{{ end }}",
            "range can't iterate over x",
        ),
        ("{{ nil }}", "nil is not a command"),
        ("{{ .Values.map 1 }}", "has arguments"),
        ("{{ index .Values.map 1 }}", "should be string"),
        ("{{ trunc .Values.n \"x\" }}", "expected int; got float64"),
        ("{{ trim .Values.none }}", "expected string"),
        ("{{ include \"nosuch\" . }}", "no template"),
        ("{{ trim }}", "want 1 got 0"),
    ]);
}

#[test]
fn objects_of_helm() {
    check(&[
        (
            "{{ .Release.Name }} {{ .Release.Namespace }} {{ .Release.Revision }} {{ .Release.IsUpgrade }} {{ .Release.IsInstall }} {{ .Release.Service }}",
            "rel ns 2 true false Helm",
        ),
        (
            "{{ .Chart.Name }} {{ .Chart.Version }} {{ .Chart.AppVersion }} {{ .Chart.Keywords }} {{ (index .Chart.Maintainers 0).Name }}",
            "app 1.2.3 9 [a] jo",
        ),
        (
            "{{ .Template.Name }} {{ .Template.BasePath }}",
            "app/templates/NOTES.txt app/templates",
        ),
        (
            "{{ .Capabilities.KubeVersion }} {{ .Capabilities.KubeVersion.GitVersion }} {{ .Capabilities.KubeVersion.Minor }} {{ .Capabilities.APIVersions.Has \"apps/v1\" }}",
            "v1.34.2 v1.34.2-eks-1 34 true",
        ),
        (
            "{{ .Files.Get \"files/a.txt\" }}{{ .Files.Get \"nosuch\" }}",
            "one\ntwo\n",
        ),
        (
            "{{ range .Files.Lines \"files/a.txt\" }}<{{ . }}>{{ end }}",
            "<one><two>",
        ),
        (
            "{{ (.Files.Glob \"files/*\").AsConfig }}",
            "a.txt: |\n  one\n  two\nb.txt: b",
        ),
        ("{{ (.Files.Glob \"**b.txt\").AsSecrets }}", "b.txt: Yg=="),
        (
            "{{ range $name, $data := .Files.Glob \"files/b*\" }}{{ $name }}={{ toString $data }}{{ end }}",
            "files/b.txt=b",
        ),
        ("{{ lookup \"v1\" \"Secret\" \"\" \"x\" }}", "map[]"),
    ]);
}

#[test]
fn text() {
    check(&[
        (
            "{{ trim \"  x \" }}{{ trimAll \"$\" \"$5$\" }}{{ trimPrefix \"a\" \"ab\" }}{{ trimSuffix \"b\" \"ab\" }}",
            "x5ba",
        ),
        (
            "{{ upper \"a\" }}{{ lower \"B\" }}{{ title \"foo bar\" }}{{ untitle \"Foo\" }}{{ swapcase \"aB\" }}",
            "AbFoo BarfooAb",
        ),
        (
            "{{ trunc 3 \"hello\" }} {{ trunc -3 \"hello\" }} {{ trunc 9 \"x\" }} {{ substr 1 3 \"hello\" }} {{ repeat 3 \"ab\" }}",
            "hel llo x el ababab",
        ),
        (
            "{{ contains \"ell\" \"hello\" }}{{ hasPrefix \"he\" \"hello\" }}{{ hasSuffix \"lo\" \"hello\" }}",
            "truetruetrue",
        ),
        (
            "{{ quote 1 nil \"a\\\"b\" true }} {{ squote \"x\" 2 }} {{ cat \"a\" nil 1 }}",
            "\"1\" \"a\\\"b\" \"true\" 'x' '2' a 1",
        ),
        ("{{ quote \"é\\n\\x01\" }}", "\"é\\n\\x01\""),
        (
            "{{ indent 2 .Values.lines }}|{{ nindent 2 \"a\\nb\" }}",
            "  one\n  two\n  |\n  a\n  b",
        ),
        (
            "{{ replace \"l\" \"L\" \"hello\" }} {{ plural \"one\" \"many\" 2 }}",
            "heLLo many",
        ),
        (
            "{{ (split \"/\" \"a/b\")._1 }} {{ splitList \",\" \"a,b\" }} {{ (splitn \"/\" 2 \"a/b/c\")._1 }} {{ join \"-\" (list 1 \"a\" nil) }}",
            "b [a b] b/c 1-a",
        ),
        (
            "{{ sortAlpha (list \"b\" \"a\") }} {{ toString 1.5 }} {{ toStrings (list 1 2) }} {{ nospace \" a b \" }} {{ initials \"First Try\" }}",
            "[a b] 1.5 [1 2] ab FT",
        ),
        (
            "{{ camelcase \"http_server\" }} {{ snakecase \"FirstName\" }} {{ kebabcase \"FirstName\" }}",
            "HttpServer first_name first-name",
        ),
        (
            "{{ abbrev 8 \"hello world\" }} {{ wrap 5 \"hello big world\" }}",
            "hello... hello\nbig\nworld",
        ),
        (
            "{{ printf \"%s-%d-%05d-%v-%q-%x-%t-%.2f-%5s|%-5s|%%\" \"a\" 1 42 nil \"q\" 255 true 1.234 \"r\" \"l\" }}",
            "a-1-00042-<nil>-\"q\"-ff-true-1.23-    r|l    |%",
        ),
        (
            "{{ printf \"%d %s\" .Values.n 1 }} {{ printf \"%s\" }} {{ printf \"x\" 1 }} {{ printf \"%[2]s%[1]s\" \"a\" \"b\" }}",
            "%!d(float64=5) %!s(int=1) %!s(MISSING) x%!(EXTRA int=1) ba",
        ),
        (
            "{{ html \"<a>\" nil }} {{ urlquery \"a b&\" }} {{ js \"<a='\\n\\u007f\\u0085\u{e9}\" }}",
            "&lt;a&gt;&lt;no value&gt; a+b%26 \\u003Ca\\u003D\\'\\u000A\u{7f}\\u0085\u{e9}",
        ),
    ]);
}

#[test]
fn lists_and_maps() {
    check(&[
        (
            "{{ first .Values.list }}{{ last (list 1 2) }}{{ rest (list 1 2) }}{{ initial (list 1 2) }}",
            "b2[2][1]",
        ),
        (
            "{{ append (list 1) 2 }}{{ prepend (list 1) 0 }}{{ concat (list 1) (list 2) }}{{ reverse (list 1 2) }}",
            "[1 2][0 1][1 2][2 1]",
        ),
        (
            "{{ uniq .Values.list }}{{ without (list 1 2 3) 2 }}{{ has \"a\" .Values.list }}{{ compact (list 0 1 \"\") }}",
            "[b a <nil> 1][1 3]true[1]",
        ),
        (
            "{{ slice (list 1 2 3) 1 2 }}{{ chunk 2 (list 1 2 3) }}{{ until 3 }}{{ untilStep 3 0 -1 }}{{ seq 1 3 }}",
            "[2][[1 2] [3]][0 1 2][3 2 1]1 2 3",
        ),
        (
            "{{ $d := dict \"a\" 1 \"b\" }}{{ $_ := set $d \"c\" 3 }}{{ $d }}{{ unset $d \"a\" }}{{ hasKey $d \"a\" }}{{ get $d \"x\" }}",
            "map[a:1 b: c:3]map[b: c:3]false",
        ),
        (
            "{{ keys .Values.map | sortAlpha }}{{ values (dict \"a\" 1) }}{{ pluck \"a\" (dict \"a\" 1) (dict \"b\" 2) }}",
            "[a b][1][1]",
        ),
        (
            "{{ pick .Values.map \"b\" \"x\" }}{{ omit .Values.map \"a\" }}{{ dig \"a\" \"x\" \"d\" .Values.map }}{{ dig \"a\" \"q\" \"d\" .Values.map }}",
            "map[b:1]map[b:1]yd",
        ),
        (
            "{{ merge (dict \"a\" 1 \"e\" \"\") (dict \"a\" 2 \"b\" 3 \"e\" 4) }}",
            "map[a:1 b:3 e:4]",
        ),
        (
            "{{ mergeOverwrite (dict \"a\" 1 \"m\" (dict \"x\" 1)) (dict \"a\" nil \"m\" (dict \"y\" 2)) }}",
            "map[a:<nil> m:map[x:1 y:2]]",
        ),
        (
            "{{ $a := dict \"x\" 1 }}{{ $b := deepCopy $a }}{{ $_ := set $a \"x\" 2 }}{{ $b.x }}{{ $a.x }}",
            "12",
        ),
        (
            "{{ $from := dict \"m\" (dict) }}{{ $to := merge (dict) $from }}{{ $_ := set $to.m \"k\" 1 }}{{ $from }}",
            "map[m:map[k:1]]",
        ),
        (
            "{{ default \"d\" .Values.none }}{{ default \"d\" 0 }}{{ default \"d\" \"x\" }}{{ coalesce nil \"\" \"c\" }}{{ empty .Values.empty.map }}{{ all 1 0 }}{{ any 1 0 }}",
            "ddxctruefalsetrue",
        ),
        (
            "{{ ternary \"a\" \"b\" true }}{{ kindOf .Values.n }}{{ typeOf \"x\" }}{{ kindIs \"map\" .Values.map }}{{ deepEqual (list 1) (list 1) }}",
            "afloat64stringtruetrue",
        ),
    ]);
    check_errors(&[
        ("{{ first 1 }}", "Cannot find first on type int"),
        (
            "{{ dig \"a\" \"b\" \"d\" (dict \"a\" 1) }}",
            "interface conversion",
        ),
        (
            "{{ set .Values.text \"a\" 1 }}",
            "expected map[string]interface {}; got string",
        ),
        ("{{ chunk 0 (list 1) }}", "chunk size"),
        ("{{ ternary 1 2 3 }}", "expected bool"),
    ]);
}

#[test]
fn numbers() {
    check(&[
        (
            "{{ add 1 2.9 \"3\" }} {{ sub 5 2 }} {{ mul 2 3 }} {{ div 7 2 }} {{ mod 7 2 }} {{ add1 1 }}",
            "6 3 6 3 1 2",
        ),
        (
            "{{ max 1 3 2 }}{{ min 1 3 }}{{ ceil 1.2 }}{{ floor 1.8 }} {{ round 1.2345 2 }} {{ maxf 1.5 2 }}",
            "3121 1.23 2",
        ),
        (
            "{{ addf 0.1 0.2 }} {{ subf 1 0.5 }} {{ mulf 1.5 2 }} {{ divf 1 4 }}",
            "0.3 0.5 3 0.25",
        ),
        (
            "{{ int \"010\" }} {{ int 1e21 }} {{ int \"x\" }} {{ int64 1.9 }} {{ float64 \"1.5\" }} {{ atoi \"7\" }} {{ toDecimal \"777\" }} {{ int true }}",
            "10 -9223372036854775808 0 1 1.5 7 511 1",
        ),
    ]);
    check_errors(&[
        ("{{ div 1 0 }}", "divide by zero"),
        ("{{ until 100000000 }}", "too long"),
        ("{{ repeat 99999999999 \"x\" }}", "too many"),
    ]);
}

#[test]
fn data_and_digests() {
    check(&[
        ("{{ toYaml .Values.map }}", "a:\n  x: \"y\"\nb: 1"),
        (
            "{{ toYaml (dict \"n\" .Values.million \"l\" (list 1 (dict \"a\" 1))) }}",
            "l:\n- 1\n- a: 1\n\"n\": 1000000",
        ),
        (
            "{{ toYamlPretty (dict \"l\" (list 1 2) \"m\" 1) }}",
            "l:\n  - 1\n  - 2\nm: 1",
        ),
        (
            "{{ toJson .Values.map }} {{ toRawJson \"<\" }} {{ toJson \"<\" }}",
            "{\"a\":{\"x\":\"y\"},\"b\":1} \"<\" \"\\u003c\"",
        ),
        ("{{ toPrettyJson (dict \"a\" 1) }}", "{\n  \"a\": 1\n}"),
        (
            "{{ (fromYaml \"a: [1, b]\").a }} {{ (fromJson \"{\\\"a\\\": 1}\").a }} {{ fromYamlArray \"[1]\" }} {{ fromJsonArray \"[1]\" }}",
            "[1 b] 1 [1] [1]",
        ),
        (
            "{{ hasKey (fromYaml \"a: [\") \"Error\" }}{{ hasKey (fromYaml \"- 1\") \"Error\" }}",
            "truetrue",
        ),
        (
            "{{ b64enc \"hello\" }} {{ b64dec \"aGVsbG8=\" }} {{ b64dec \"!\" }} {{ b32enc \"hello\" }} {{ b32dec \"NBSWY3DP\" }}",
            "aGVsbG8= hello illegal base64 data at input byte 0 NBSWY3DP hello",
        ),
        (
            "{{ sha256sum \"a\" | trunc 8 }} {{ sha1sum \"a\" | trunc 8 }} {{ sha512sum \"a\" | trunc 8 }} {{ adler32sum \"a\" }}",
            "ca978112 86f7e437 1f40fc92 6422626",
        ),
    ]);
    check_errors(&[
        ("{{ fromToml \"\" }}", "TOML is not supported"),
        ("{{ mustFromJson \"{\" }}", "EOF"),
    ]);
}

#[test]
fn patterns_versions_dates_and_urls() {
    check(&[
        (
            "{{ regexMatch \"^a.c$\" \"abc\" }}{{ regexFind \"b+\" \"abbc\" }}{{ regexFindAll \"[0-9]\" \"1a2b3\" 2 }}{{ regexReplaceAll \"a(x*)b\" \"-ab-axxb-\" \"${1}W\" }}",
            "truebb[1 2]-W-xxW-",
        ),
        (
            "{{ regexReplaceAllLiteral \"a\" \"ab\" \"$1\" }}{{ regexSplit \"z+\" \"pizza\" -1 }}{{ regexQuoteMeta \"1.2\" }}",
            "$1b[pi a]1\\.2",
        ),
        (
            "{{ semverCompare \">=1.20-0\" .Capabilities.KubeVersion.GitVersion }}{{ (semver \"v1.2.3-rc.1\").Minor }}",
            "true2",
        ),
        (
            "{{ now | date \"2006-01-02\" }} {{ dateInZone \"15:04\" (now) \"Europe/Berlin\" }} {{ htmlDate 0 }} {{ unixEpoch now }}",
            "2006-01-02 23:04 1970-01-01 1136239445",
        ),
        (
            "{{ (toDate \"2006-01-02\" \"2024-02-29\") | dateModify \"24h\" | date \"Jan 2\" }} {{ duration \"95\" }} {{ durationRound \"2h10m\" }}",
            "Mar 1 1m35s 2h",
        ),
        (
            "{{ mustToDuration \"1h\" }} {{ durationSeconds \"1m\" }} {{ durationRoundTo \"2h13m\" \"30m\" }} {{ ago (now) }}",
            "1h0m0s 60 2h0m0s 0s",
        ),
        (
            "{{ (urlParse \"https://u:p@h:8080/p?q=1#f\").host }} {{ (urlParse \"https://h/p\").path }} {{ urlJoin (dict \"scheme\" \"https\" \"host\" \"h\" \"path\" \"p\") }}",
            "h:8080 /p https://h/p",
        ),
        (
            "{{ base \"/a/b.txt\" }}{{ dir \"/a/b\" }}{{ clean \"a/../b\" }}{{ ext \"a.tar.gz\" }}{{ isAbs \"/a\" }}",
            "b.txt/ab.gztrue",
        ),
        (
            "{{ tpl \"{{ .Values.text }}{{ include \\\"x\\\" . }}{{ define \\\"y\\\" }}{{ end }}\" . }}{{ define \"x\" }}!{{ end }}",
            "hello!",
        ),
        ("{{ required \"needed\" .Values.text }}", "hello"),
    ]);
    check_errors(&[
        ("{{ fail \"no good\" }}", "no good"),
        ("{{ required \"needed\" .Values.nothing }}", "needed"),
        ("{{ mustRegexMatch \"(\" \"x\" }}", "error parsing regexp"),
        (
            "{{ semverCompare \">>1\" \"1.0.0\" }}",
            "improper constraint",
        ),
        ("{{ tpl \"{{ nosuch }}\" . }}", "cannot parse template"),
    ]);
}
