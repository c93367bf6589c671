/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Checksum and segmentation offload of a turbotap netdev: what is agreed with
 * the host, and what the virtio-net header of a frame says, as the offload
 * flags of a dp_packet, and back.  Must not know how frames are moved.
 *
 * The host leaves checksums and segmentation to us, whatever the switch and
 * its other ports can do.  What the switch gets of it depends on
 * userspace-tso-enable.  Without, frames are cut, and checksums completed,
 * here: each packet is complete, for whoever looks at it.  With it, only what
 * there is no flag for is. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "coverage.h"
#include "crc32c.h"
#include "dp-packet.h"
#include "packets.h"
#include "smap.h"

COVERAGE_DEFINE(turbotap_rx_tso);
COVERAGE_DEFINE(turbotap_tx_tso);
COVERAGE_DEFINE(turbotap_rx_csum_completed);
COVERAGE_DEFINE(turbotap_tx_copy);

/* Agrees with the host on what it leaves to the switch, on 'dev' of 'tt',
 * which may still have other settings from before.  Returns 0 or a positive
 * errno value. */
int
netdev_turbotap_offload_open(struct netdev_turbotap *tt,
                             struct turbotap_dev *dev)
{
    int error = turbotap_dev_set_vnet_hdr_size(dev, TURBOTAP_VNET_HDR_LEN);

    if (error) {
        return error;
    } else if (!tt->requested_offload) {
        error = turbotap_dev_set_offload(dev, 0);
        tt->uso = false;
    } else {
        error = turbotap_dev_set_offload(dev, TURBOTAP_TSO_OFFLOADS
                                              | TURBOTAP_USO_OFFLOADS);
        tt->uso = !error;
        if (error == EINVAL) {
            error = turbotap_dev_set_offload(dev, TURBOTAP_TSO_OFFLOADS);
        }
    }
    if (!error) {
        tt->offload = tt->requested_offload;
        /* A kernel that cuts UDP for us takes it merged, too. */
        atomic_store_relaxed(&tt->gro_kinds,
                             (tt->offload ? TURBOTAP_GRO_TCP : 0)
                             | (tt->uso ? TURBOTAP_GRO_UDP : 0));
    }
    return error;
}

void
netdev_turbotap_offload_get_status(const struct netdev_turbotap *tt,
                                   struct smap *smap)
{
    unsigned int kinds;

    atomic_read_relaxed(&CONST_CAST(struct netdev_turbotap *, tt)->gro_kinds,
                        &kinds);
    smap_add_format(smap, "offloads", "%s%s%s%s",
                    tt->offload ? "csum tso4 tso6 tso_ecn" : "none",
                    tt->uso ? " uso4 uso6" : "",
                    kinds & TURBOTAP_GRO_TCP ? " gro" : "",
                    kinds & TURBOTAP_GRO_UDP ? " udp_gro" : "");
}

/* Completes the checksum of the 'len' octets of SCTP at 'sctp', for which the
 * virtio-net header has no means.  Returns 0, or EINVAL if there is none. */
static int
complete_sctp_csum(void *sctp, size_t len)
{
    struct sctp_header *sh = sctp;

    if (len < SCTP_HEADER_LEN) {
        return EINVAL;
    }
    put_16aligned_be32(&sh->sctp_csum, 0);
    put_16aligned_be32(&sh->sctp_csum, crc32c(sctp, len));
    return 0;
}

/* Receiving. */

/* Returns true if Open vSwitch has flags for what is left to be done to the
 * frame of which the host said '*rx', and finds the headers it is about. */
static bool
has_flags(const struct turbotap_vnet_rx *rx)
{
    return (netdev_turbotap_may_be_partial(rx->at.proto, rx->at.ipv6)
            && !rx->at.routing && rx->at.n_vlans <= 1);
}

/* Returns true if the switch takes the frame whole of which the host said
 * '*rx', with a 'seg_size'. */
bool
netdev_turbotap_offload_is_whole(const struct turbotap_vnet_rx *rx)
{
    return has_flags(rx) && rx->csum_partial && rx->at.proto == IPPROTO_TCP;
}

/* Does to the 'size' octets at 'frame', of which the host said '*rx', what the
 * switch cannot be told to do later, and changes '*rx' accordingly. */
void
netdev_turbotap_offload_complete(uint8_t *frame, uint32_t size,
                                 struct turbotap_vnet_rx *rx)
{
    if (!rx->csum_partial || has_flags(rx)) {
        return;
    }
    COVERAGE_INC(turbotap_rx_csum_completed);
    rx->csum_partial = false;
    if (rx->at.proto == IPPROTO_SCTP) {
        rx->csum_good = !complete_sctp_csum(frame + rx->csum_start,
                                            rx->at.end - rx->csum_start);
    } else {
        turbotap_vnet_complete(frame, size, rx);
        rx->csum_good = rx->at.proto != 0;
    }
}

/* Gives 'packet' the flags that stand for '*rx'. */
void
netdev_turbotap_offload_set_flags(struct dp_packet *packet,
                                  const struct turbotap_vnet_rx *rx)
{
    if (rx->seg_size) {
        COVERAGE_INC(turbotap_rx_tso);
    }
    if (rx->csum_partial) {
        netdev_turbotap_set_partial(packet, rx->at.proto, rx->at.ipv6,
                                    rx->seg_size);
    } else if (rx->csum_good) {
        netdev_turbotap_set_csum_good(packet);
    }
}

/* Sending. */

/* Writes to 'hdr' what is left to be done to 'packet', which leaves by a port
 * of 'mtu'.  Returns 0, or EINVAL if the flags of 'packet' do not fit it. */
static int
write_header(void *hdr, struct dp_packet *packet, unsigned int mtu)
{
    bool tso = netdev_turbotap_is_tso(packet);
    struct turbotap_vnet_tx tx = {
        .mtu = tso ? MIN(mtu, UINT16_MAX) : 0,
        .seg_size = dp_packet_get_tso_segsz(packet),
    };

    tx.proto = netdev_turbotap_get_partial(packet, &tx.l3_ofs, &tx.l4_ofs);
    if (!tso && !tx.proto) {
        turbotap_vnet_write_plain(hdr);
        return 0;
    } else if (tx.proto == IPPROTO_SCTP) {
        turbotap_vnet_write_plain(hdr);
        return complete_sctp_csum(dp_packet_l4(packet),
                                  dp_packet_l4_size(packet));
    } else if (!tx.proto) {
        tx.proto = IPPROTO_TCP;
    }
    if (tso) {
        COVERAGE_INC(turbotap_tx_tso);
    }
    return turbotap_vnet_write(hdr, dp_packet_data(packet),
                               dp_packet_size(packet), &tx);
}

/* Returns a copy of 'packet', which is deleted and no larger than the largest
 * frame, with room for a virtio-net header before the data.
 *
 * Not dp_packet_prealloc_headroom(), which with a packet of nearly 64 kB
 * takes the overflow of its 'allocated' for tailroom. */
static struct dp_packet *
make_headroom(struct dp_packet *packet)
{
    uint32_t size = dp_packet_size(packet);
    struct dp_packet *copy;

    COVERAGE_INC(turbotap_tx_copy);
    netdev_turbotap_new_packets(&copy, 1, size);
    memcpy(dp_packet_data(copy), dp_packet_data(packet), size);
    dp_packet_set_size(copy, size);
    netdev_turbotap_copy_offloads(copy, packet);
    dp_packet_delete(packet);
    return copy;
}

/* Makes 'buf' be '*packetp', with a virtio-net header, for a port of 'mtu'.
 * May replace the packet.  Returns 0, or EINVAL if there is no header that
 * says what is left to be done to it. */
int
netdev_turbotap_offload_prepare(struct dp_packet **packetp, unsigned int mtu,
                                struct turbotap_buf *buf)
{
    if (OVS_UNLIKELY(dp_packet_headroom(*packetp) < TURBOTAP_VNET_HDR_LEN)) {
        if (dp_packet_size(*packetp) > TURBOTAP_FRAME_MAX) {
            return EINVAL;
        }
        *packetp = make_headroom(*packetp);
    }
    buf->data = (char *) dp_packet_data(*packetp) - TURBOTAP_VNET_HDR_LEN;
    buf->size = dp_packet_size(*packetp) + TURBOTAP_VNET_HDR_LEN;
    buf->n_iov = 0;
    return write_header(buf->data, *packetp, mtu);
}
