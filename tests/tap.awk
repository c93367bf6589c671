# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.
#
# Turns TAP into lines "RESULT<tab>TEST<tab>REASON", RESULT one of pass, fail
# and skip, for tests/check.  'program' names what printed the TAP.
#
# Takes it as cmocka prints it: "not ok" for skipped tests too, the reason on
# the line before, and a plan for each of several groups.

function report(result, test, reason) {
    sub(/^ *-? */, "", test)
    printf "%s\t%s: %s\t%s\n", result, program, test, reason
    fflush()
}

# A failed test is reported when the comments that say why have been read.
function report_failure() {
    if (failed != "")
        report("fail", failed, why)
    failed = why = ""
}

/^1\.\.[0-9]+/ {
    plan += substr($0, 4)
    planned = 1
}

/^1\.\.0/ {
    sub(/^[^#]*# *(SKIP)? */, "")
    report("skip", "all", $0)
}

/^(not )?ok / {
    report_failure()
    seen++
    good = /^ok/
    sub(/^(not )?ok *[0-9]*/, "")
    if (match($0, / *# *[Ss][Kk][Ii][Pp][^ ]* */)) {
        test = substr($0, 1, RSTART - 1)
        reason = substr($0, RSTART + RLENGTH)
        if (test ~ /^ *-? *$/) {
            test = reason
            reason = last
        }
        report("skip", test, reason != "" ? reason : "no reason given")
    } else if (good) {
        report("pass", $0)
    } else {
        failed = $0
    }
}

/^# / && failed != "" {
    why = why (why != "" ? "; " : "") substr($0, 3)
}

{
    last = $0
}

END {
    report_failure()
    if (!planned || seen != plan)
        report("fail", "all", "ended after " seen + 0 " of " plan + 0 " tests")
}
