#!/bin/sh
# Records, shows and resumes the example agent. Needs Rust and Python 3.9; no key, no network, nothing installed.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
(cd "$here/.." && cargo build --release --quiet)
target=${CARGO_TARGET_DIR:-$here/../target}
PATH=$(cd "$target/release" && pwd):$PATH

work=$(mktemp -d)
cp -r "$here/shop" "$work/shop"
cd "$work/shop"

step() {
    printf '\n\033[1m$ %s\033[0m\n' "$1"
    shift
    "$@"
}

step 'agentrec run --with-sdk -- python3 agent.py' \
    agentrec run --with-sdk -- python3 "$here/agent.py"
step 'agentrec show' agentrec --no-pager show
step 'agentrec diff' agentrec --no-pager diff || [ $? -eq 1 ]
step 'agentrec resume --snapshot 2 --prompt "The code is right. Correct the test."' \
    agentrec resume --with-sdk --snapshot 2 --prompt "The code is right. Correct the test."
step 'agentrec diff' agentrec --no-pager diff || [ $? -eq 1 ]

printf '\nThe agent worked in %s. What was recorded: agentrec list\n' "$work/shop"
