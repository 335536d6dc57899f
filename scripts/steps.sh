# Sourced by scripts/check and .ci/run: steps with a heading, a duration and a summary.
#
#   step "heading" command…      runs it; a failure is remembered, later steps still run
#   summary                      prints the end of what each failed step printed, then all steps; its exit code is 1 when
#                                one has failed. Of a long log often only the end is seen.

STEPS=()
STEPS_FAILED=0
STEPS_ENDS=()
STEPS_LINES=40 # of a failed step

step() {
    local heading=$1 began=$SECONDS code=0 line output
    shift
    printf '\n=== %s\n' "$heading"
    output=$(mktemp)
    # pipefail or not, and whatever `set -e` says: the exit code is that of the command.
    "$@" </dev/null 2>&1 | tee "$output" && code=${PIPESTATUS[0]} || code=${PIPESTATUS[0]}
    if [ "$code" -eq 0 ]; then
        line=$(printf 'ok      %4d s  %s' $((SECONDS - began)) "$heading")
    else
        line=$(printf 'FAILED  %4d s  %s (exit code %d)' $((SECONDS - began)) "$heading" "$code")
        STEPS_FAILED=1
        STEPS_ENDS+=("$(printf '\n=== the end of: %s\n' "$heading"; tail -n "$STEPS_LINES" "$output")")
    fi
    rm -f "$output"
    STEPS+=("$line")
    printf '%s\n' "$line"
}

summary() {
    if [ "$STEPS_FAILED" -ne 0 ]; then
        printf '%s\n' "${STEPS_ENDS[@]}"
    fi
    printf '\n=== summary (%d s)\n' "$SECONDS"
    printf '%s\n' "${STEPS[@]}"
    return "$STEPS_FAILED"
}
