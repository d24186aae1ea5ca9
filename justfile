# The same stages as .ci/run, by hand.

# Everything a change must pass
ci:
    .ci/run

fmt:
    .ci/run fmt

lint:
    .ci/run clippy clippy-lib doc deny

test *args:
    cargo test {{args}}

# A minute of fuzzing for each target
fuzz *args:
    tests/fuzz/run {{args}}

# Real clusters on this machine
lab *args:
    lab/test {{args}}

# Two embedded clusters become one mesh
try:
    cargo run -- join eks-1 eks-2 --sandbox
