#! /bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.
#
# Generates ./configure.  Only for "./boot.sh && ./configure && make"; plain
# "make" needs nothing of it (see GNUmakefile).

cd "$(dirname "$0")" && exec autoreconf --install --force
