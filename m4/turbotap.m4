# SPDX-License-Identifier: Apache-2.0
#
# Copyright (c) 2026 The turbotap authors.
#
# What turbotap needs of the machine it is built on.  Copied into the Open
# vSwitch tree as it is, so it must not know which of the two configures it.

dnl The version of turbotap.  This is its only home.
m4_define([turbotap_version], [0.1.0])

dnl TURBOTAP_CHECK_FEATURE(FILE, NAME, DEFINE, DESCRIPTION)
dnl
dnl Defines DEFINE if FILE of the Open vSwitch tree has NAME.
AC_DEFUN([TURBOTAP_CHECK_FEATURE], [
  AS_IF([grep -qw '$2' "$srcdir/$1" 2>/dev/null], [AC_DEFINE([$3], [1], [$4])])
])

dnl TURBOTAP_CHECK_FEATURES
dnl
dnl Checks for what lib/netdev-turbotap-compat.h has to know of Open vSwitch.
AC_DEFUN([TURBOTAP_CHECK_FEATURES], [
  TURBOTAP_CHECK_FEATURE([lib/netdev-provider.h], [get_speed],
    [HAVE_NETDEV_GET_SPEED], [Define to 1 if a netdev class has get_speed.])
  TURBOTAP_CHECK_FEATURE([lib/netdev-provider.h], [get_duplex],
    [HAVE_NETDEV_GET_DUPLEX], [Define to 1 if a netdev class has get_duplex.])
  TURBOTAP_CHECK_FEATURE([lib/dp-packet.h], [dp_packet_batch_reset],
    [HAVE_DP_PACKET_BATCH_RESET],
    [Define to 1 if a batch of packets may grow.])
  TURBOTAP_CHECK_FEATURE([lib/dp-packet.h], [dp_packet_ol_set_l4_csum_partial],
    [HAVE_DP_PACKET_CSUM_PARTIAL],
    [Define to 1 if the offload flags of a packet say that a checksum is
     partial.])
])

dnl OVS_CHECK_TURBOTAP([DEFAULT])
dnl
dnl Checks for what lib/turbotap-*.c need.  DEFAULT, "auto" unless given, says
dnl what holds without --enable-turbotap and --disable-turbotap: "auto" builds
dnl without turbotap when a dependency is missing, "yes" is an error then.
dnl
dnl Adds the libraries to LIBS, substitutes TURBOTAP_CFLAGS and defines
dnl TURBOTAP_VERSION, HAVE_TURBOTAP and, with liburing, which is optional,
dnl HAVE_LIBURING, the latter two also as conditionals for Automake.
AC_DEFUN([OVS_CHECK_TURBOTAP], [
  AC_ARG_ENABLE(
    [turbotap],
    [AS_HELP_STRING([--disable-turbotap], [Disable turbotap support])],
    [case "${enableval}" in
       (yes | no | auto) ;;
       (*) AC_MSG_ERROR([bad value ${enableval} for --enable-turbotap]) ;;
     esac],
    [enable_turbotap=m4_default([$1], [auto])])

  turbotap_have_liburing=no
  AC_MSG_CHECKING([whether turbotap is enabled])
  AC_MSG_RESULT([$enable_turbotap])
  if test "$enable_turbotap" = no; then
    TURBOTAP_ENABLE=false
  else
    TURBOTAP_ENABLE=true
    failed_dep=none

    AC_CHECK_HEADER([linux/if_tun.h], [], [failed_dep="linux/if_tun.h"])

    if test "$failed_dep" = none; then
      PKG_CHECK_MODULES([TURBOTAP], [libnl-3.0 libnl-route-3.0], [],
                        [failed_dep="libnl-route-3"])
    fi

    if test "$failed_dep" = none; then
      PKG_CHECK_MODULES([LIBURING], [liburing >= 2.3],
                        [turbotap_have_liburing=yes], [:])
      AC_DEFINE([HAVE_TURBOTAP], [1],
                [Define to 1 if turbotap support is available and enabled.])
      AC_DEFINE([TURBOTAP_VERSION], ["turbotap_version"],
                [The version of turbotap.])
      LIBS="$TURBOTAP_LIBS $LIBS"
    elif test "$enable_turbotap" = yes; then
      AC_MSG_ERROR([Missing $failed_dep dependency for turbotap support])
    else
      AC_MSG_WARN(m4_normalize(
          [Cannot find $failed_dep, turbotap will not be supported
           (use --disable-turbotap to suppress this warning).]))
      TURBOTAP_ENABLE=false
    fi
  fi

  TURBOTAP_CHECK_FEATURES

  if test "$turbotap_have_liburing" = yes; then
    AC_DEFINE([HAVE_LIBURING], [1], [Define to 1 if liburing is available.])
    TURBOTAP_CFLAGS="$TURBOTAP_CFLAGS $LIBURING_CFLAGS"
    LIBS="$LIBURING_LIBS $LIBS"
  fi
  AM_CONDITIONAL([HAVE_LIBURING], [test "$turbotap_have_liburing" = yes])
  AM_CONDITIONAL([HAVE_TURBOTAP], [test "$TURBOTAP_ENABLE" = true])
])
