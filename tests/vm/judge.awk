# SPDX-License-Identifier: Apache-2.0
# Sums up what a guest printed (see init): prints a failure for each program
# that ended badly without saying so, a plan for all that no program planned,
# and 'N passed, N failed, N skipped'.  Exits with 1 unless something passed,
# nothing failed, and the guest came to its end.
#
# The results of init have no number, those of the programs do.  A program may
# have several plans, and say "not ok" of a test that it skips, as cmocka does.
#
# Copyright (c) 2026 The turbotap authors.

function fail(what) { own++; failed++; print "not ok - " what }

# The program is at its end, or the guest is: was its TAP complete?
function finish(status) {
    if (program != "") {
        if (plan == "") {
            fail(program ": printed no plan")
        } else if (plan != seen) {
            fail(program ": planned " plan " tests, ran " seen)
        } else if (status != 0 && !(status == 77 && !seen) && !failed_here) {
            fail(program ": exit status " status)
        }
    }
    program = ""
}

/^# vm: begin / { program = $4; plan = ""; seen = failed_here = 0 }
/^# vm: end / { finish($5) }
/^# vm: done / { done = 1 }

/^ok - / { own++; passed++ }
/^not ok - / { own++; failed++ }
/^(not )?ok [0-9]/ {
    seen++
    if (/# SKIP/) {
        skipped++
    } else if (/^ok/) {
        passed++
    } else {
        failed_here++
        failed++
    }
}
/^1\.\.[0-9]+/ {
    plan += substr($0, 4)
    skipped += /^1\.\.0/
}

END {
    finish(1)
    if (!done) {
        fail("the guest came to its end")
    }
    printf "1..%d\n", own
    printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
    exit !(passed && !failed)
}
