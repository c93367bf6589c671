/* SPDX-License-Identifier: Apache-2.0
 *
 * Copyright (c) 2026 The turbotap authors.
 */

/* Checksum and segmentation offload of a turbotap netdev: what the virtio-net
 * header of a frame says, as the offload flags of a dp_packet, and back.  Must
 * not know how frames are moved.
 *
 * Open vSwitch 3.1 has one switch for all this, userspace-tso-enable.  Without
 * it no netdev may be sent a packet whose checksum is not complete, so the
 * host is told to complete it, and frames come without a header. */

#include <config.h>

#include "netdev-turbotap-private.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <netinet/in.h>

#include "coverage.h"
#include "crc32c.h"
#include "dp-packet.h"
#include "openvswitch/vlog.h"
#include "packets.h"
#include "smap.h"
#include "userspace-tso.h"

VLOG_DEFINE_THIS_MODULE(netdev_turbotap_offload);

COVERAGE_DEFINE(turbotap_rx_tso);
COVERAGE_DEFINE(turbotap_tx_tso);
COVERAGE_DEFINE(turbotap_rx_malformed);
COVERAGE_DEFINE(turbotap_rx_csum_completed);
COVERAGE_DEFINE(turbotap_tx_copy);

/* What the switch takes from the host.  Not UDP segments (TUN_F_USO4 and 6),
 * which Open vSwitch 3.1 has no flag for. */
#define OFFLOADS (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)
#define OFFLOADS_STRING "csum tso4 tso6 tso_ecn"

/* Copying a frame of up to so many octets is cheaper than going through the
 * switch with a packet that has room for the largest. */
#define MAX_COPY 2048

void
netdev_turbotap_offload_construct(struct netdev_turbotap *tt)
{
    tt->vnet_hdr = userspace_tso_enabled();
    /* netdev-linux has set 'ol_flags' accordingly. */
}

/* Tells the host what the switch takes, on 'dev', just opened for 'tt', which
 * may still have other settings from an earlier run.  Returns 0 or a
 * positive errno value. */
int
netdev_turbotap_offload_open(const struct netdev_turbotap *tt,
                             struct turbotap_dev *dev)
{
    int error = 0;

    if (tt->vnet_hdr) {
        error = turbotap_dev_set_vnet_hdr_size(dev, TURBOTAP_VNET_HDR_LEN);
    }
    return (error
            ? error
            : turbotap_dev_set_offload(dev, tt->vnet_hdr ? OFFLOADS : 0));
}

void
netdev_turbotap_offload_get_status(const struct netdev_turbotap *tt,
                                   struct smap *smap)
{
    smap_add(smap, "offloads", tt->vnet_hdr ? OFFLOADS_STRING : "none");
}

/* Receiving. */

/* Returns the offload flags that stand for '*rx'. */
static uint64_t
rx_to_ol_flags(const struct turbotap_vnet_rx *rx)
{
    uint64_t flags = rx->csum_good ? DP_PACKET_OL_RX_L4_CKSUM_GOOD : 0;

    if (rx->proto) {
        flags |= rx->ipv6 ? DP_PACKET_OL_TX_IPV6 : DP_PACKET_OL_TX_IPV4;
        flags |= (rx->proto == IPPROTO_TCP ? DP_PACKET_OL_TX_TCP_CKSUM
                  : rx->proto == IPPROTO_UDP ? DP_PACKET_OL_TX_UDP_CKSUM
                  : DP_PACKET_OL_TX_SCTP_CKSUM);
    }
    if (rx->seg_size) {
        COVERAGE_INC(turbotap_rx_tso);
        flags |= DP_PACKET_OL_TX_TCP_SEG;
    }
    return flags;
}

/* Stores in '*flags' the offload flags of the frame in 'buf', and in
 * '*seg_size' the payload of the segments it is to be cut into, in octets, or
 * 0.  Returns 0, or EINVAL if its header is malformed. */
static int
parse_header(const struct turbotap_buf *buf, uint64_t *flags,
             uint16_t *seg_size)
{
    uint8_t *frame = (uint8_t *) buf->data + TURBOTAP_VNET_HDR_LEN;
    uint32_t size = buf->size - TURBOTAP_VNET_HDR_LEN;
    struct turbotap_vnet_rx rx;

    *flags = 0;
    *seg_size = 0;
    if (turbotap_vnet_is_plain(buf->data)) {
        return 0;
    }
    if (turbotap_vnet_parse(buf->data, frame, size, &rx)) {
        return EINVAL;
    }
    if (rx.csum_partial && !rx.proto) {
        /* Open vSwitch has no flag for this one. */
        COVERAGE_INC(turbotap_rx_csum_completed);
        turbotap_vnet_complete(frame, size, &rx);
    }
    *flags = rx_to_ol_flags(&rx);
    *seg_size = rx.seg_size;
    return 0;
}

/* Adds to 'batch' the 'n' frames in 'bufs', at most NETDEV_MAX_BURST, that
 * 'queue' received with a virtio-net header.  Malformed ones are dropped.  The
 * buffers of small frames go back to 'queue'; they have room for 'buf_size'
 * octets of data. */
void
netdev_turbotap_offload_receive(struct turbotap_queue *queue,
                                struct turbotap_buf *bufs, unsigned int n,
                                uint32_t buf_size,
                                struct dp_packet_batch *batch)
{
    struct dp_packet *copies[NETDEV_MAX_BURST];
    struct turbotap_buf back[NETDEV_MAX_BURST];
    unsigned int n_copies = 0;
    unsigned int n_back = 0;

    for (unsigned int i = 0; i < n; i++) {
        n_copies += bufs[i].size <= MAX_COPY;
    }
    netdev_turbotap_new_packets(copies, n_copies, MAX_COPY);

    for (unsigned int i = 0; i < n; i++) {
        uint32_t size = bufs[i].size - TURBOTAP_VNET_HDR_LEN;
        struct dp_packet *packet = bufs[i].cookie;
        bool malformed, copy;
        uint16_t seg_size;
        uint64_t flags;

        malformed = parse_header(&bufs[i], &flags, &seg_size);
        copy = bufs[i].size <= MAX_COPY;
        if (malformed || copy) {
            back[n_back] = bufs[i];
            back[n_back++].size = TURBOTAP_VNET_HDR_LEN + buf_size;
        }
        if (OVS_UNLIKELY(malformed)) {
            COVERAGE_INC(turbotap_rx_malformed);
            turbotap_queue_drop_received(queue, bufs[i].size,
                                         TURBOTAP_DROP_MALFORMED);
            continue;
        }
        if (copy) {
            packet = copies[--n_copies];
            memcpy(dp_packet_data(packet),
                   dp_packet_data(bufs[i].cookie), size);
        }
        dp_packet_set_size(packet, size);
        *dp_packet_ol_flags_ptr(packet) |= flags;
        dp_packet_set_tso_segsz(packet, seg_size);
        dp_packet_batch_add(batch, packet);
    }

    while (n_copies) {
        dp_packet_delete(copies[--n_copies]);
    }
    turbotap_queue_fill(queue, back, n_back);
}

/* Sending. */

/* Completes the checksum of the SCTP 'packet', for which the virtio-net header
 * has no means.  Returns 0, or EINVAL if it is none. */
static int
complete_sctp_csum(struct dp_packet *packet)
{
    struct sctp_header *sh = dp_packet_l4(packet);

    if (!sh || dp_packet_l4_size(packet) < SCTP_HEADER_LEN) {
        return EINVAL;
    }
    put_16aligned_be32(&sh->sctp_csum, 0);
    put_16aligned_be32(&sh->sctp_csum,
                       crc32c((uint8_t *) sh, dp_packet_l4_size(packet)));
    return 0;
}

/* Writes to 'hdr' what is left to be done to 'packet', which leaves by a port
 * of 'mtu'.  Returns 0, or EINVAL if the flags of 'packet' do not fit it. */
static int
write_header(void *hdr, struct dp_packet *packet, unsigned int mtu)
{
    bool tso = dp_packet_hwol_is_tso(packet);
    struct turbotap_vnet_tx tx = {
        .l3_ofs = packet->l3_ofs,
        .l4_ofs = packet->l4_ofs,
        .proto = (dp_packet_hwol_l4_is_udp(packet)
                  ? IPPROTO_UDP : IPPROTO_TCP),
        .mtu = tso ? MIN(mtu, UINT16_MAX) : 0,
        .seg_size = dp_packet_get_tso_segsz(packet),
    };

    if (!tso && !dp_packet_hwol_l4_mask(packet)) {
        turbotap_vnet_write_plain(hdr);
        return 0;
    } else if (dp_packet_hwol_l4_is_sctp(packet)) {
        turbotap_vnet_write_plain(hdr);
        return complete_sctp_csum(packet);
    }
    if (tso) {
        COVERAGE_INC(turbotap_tx_tso);
    }
    return turbotap_vnet_write(hdr, dp_packet_data(packet),
                               dp_packet_size(packet), &tx);
}

/* Returns a copy of 'packet', which is deleted, with room for a virtio-net
 * header before the data.
 *
 * Not dp_packet_prealloc_headroom(), which with a packet of nearly 64 kB
 * takes the overflow of its 'allocated' for tailroom. */
static struct dp_packet *
make_headroom(struct dp_packet *packet)
{
    uint32_t size = dp_packet_size(packet);
    struct dp_packet *copy;

    COVERAGE_INC(turbotap_tx_copy);
    netdev_turbotap_new_packets(&copy, 1,
                                size <= MAX_COPY ? MAX_COPY
                                : MAX(size, NETDEV_TURBOTAP_MAX_BUF));
    memcpy(dp_packet_data(copy), dp_packet_data(packet), size);
    dp_packet_set_size(copy, size);
    copy->l2_pad_size = packet->l2_pad_size;
    copy->l3_ofs = packet->l3_ofs;
    copy->l4_ofs = packet->l4_ofs;
    *dp_packet_ol_flags_ptr(copy) = *dp_packet_ol_flags_ptr(packet);
    dp_packet_set_tso_segsz(copy, dp_packet_get_tso_segsz(packet));
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
        *packetp = make_headroom(*packetp);
    }
    buf->data = (char *) dp_packet_data(*packetp) - TURBOTAP_VNET_HDR_LEN;
    buf->size = dp_packet_size(*packetp) + TURBOTAP_VNET_HDR_LEN;
    return write_header(buf->data, *packetp, mtu);
}
