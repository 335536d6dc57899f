# Sourced by scripts/check and .ci/run: steps with a heading, a duration and a summary.
#
#   step "heading" command…      runs it; a failure is remembered, later steps still run
#   summary                      prints all steps again; its exit code is 1 when one has failed

STEPS=()
STEPS_FAILED=0

step() {
    local heading=$1 began=$SECONDS code=0 line
    shift
    printf '\n=== %s\n' "$heading"
    "$@" </dev/null || code=$?
    if [ "$code" -eq 0 ]; then
        line=$(printf 'ok      %4d s  %s' $((SECONDS - began)) "$heading")
    else
        line=$(printf 'FAILED  %4d s  %s (exit code %d)' $((SECONDS - began)) "$heading" "$code")
        STEPS_FAILED=1
    fi
    STEPS+=("$line")
    printf '%s\n' "$line"
}

summary() {
    printf '\n=== summary (%d s)\n' "$SECONDS"
    printf '%s\n' "${STEPS[@]}"
    return "$STEPS_FAILED"
}
