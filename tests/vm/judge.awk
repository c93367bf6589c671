# SPDX-License-Identifier: Apache-2.0
# Reads what the guest prints (see init), passes it on, and sums it up in the
# file 'verdict': 'N passed, N failed, N skipped'.  Exits with 1 unless something
# passed, nothing failed, and the guest came to its end.
#
# Copyright (c) 2026 The turbotap authors.

function pass(what) { passed++; print "ok - " what " (" kernel ")" }
function fail(what) { failed++; print "not ok - " what " (" kernel ")" }

# The end of a program, or of the guest: was its TAP complete?
function finish() {
    if (program == "") {
        return
    }
    if (!planned) {
        fail(program ": printed no plan")
    } else if (seen != plan) {
        fail(program ": planned " plan " tests, ran " seen)
    }
    program = ""
}

/^vm: begin / {
    program = $3
    planned = plan = seen = 0
    print "# " program " on " kernel
    fflush()
    next
}
/^vm: end / {
    if ($4 != 0 && !failed_here) {
        fail(program ": exit status " $4)
    }
    finish()
    print "# took " $5 " s in the guest"
    failed_here = 0
    fflush()
    next
}
/^vm: pass / { sub(/^vm: pass /, ""); pass($0); fflush(); next }
/^vm: fail / { sub(/^vm: fail /, ""); fail($0); fflush(); next }
/^vm: done / { done = 1; next }
/^vm: / { print "# " $0; fflush(); next }

program != "" && /^ok / {
    seen++
    if (tolower($0) ~ /# skip/) {
        skipped++
    } else {
        passed++
    }
}
program != "" && /^not ok / { seen++; failed++; failed_here = 1 }
program != "" && /^1\.\.[0-9]+/ {
    planned = 1
    plan = substr($0, 4) + 0
    if (plan == 0) {
        skipped++
    }
}
{ print; fflush() }

END {
    finish()
    if (!done) {
        fail("the guest came to its end")
    }
    printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped > verdict
    exit !(passed && !failed)
}
