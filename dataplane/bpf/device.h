/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* What the kernel itself says of the device that a frame came by (since Linux 6.2).
 * The tables that we are told of it by lag behind a change by some milliseconds. */
#ifndef TIDEGATE_DEVICE_H
#define TIDEGATE_DEVICE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

struct net_device {
	const unsigned char *dev_addr;
} __attribute__((preserve_access_index));

struct xdp_rxq_info {
	struct net_device *dev;
} __attribute__((preserve_access_index));

struct xdp_buff {
	struct xdp_rxq_info *rxq;
} __attribute__((preserve_access_index));

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;
extern void *bpf_rdonly_cast(const void *object, __u32 type) __ksym __weak;

/* The device's link address now, or 0. */
static __always_inline const __u8 *link_address_of(struct xdp_md *ctx)
{
	struct xdp_buff *frame;
	struct ethhdr *header;

	if (!bpf_ksym_exists(bpf_cast_to_kern_ctx) || !bpf_ksym_exists(bpf_rdonly_cast))
		return 0;
	frame = bpf_cast_to_kern_ctx(ctx);
	/* A type that begins with six bytes, so that these can be read. */
	header = bpf_rdonly_cast(frame->rxq->dev->dev_addr, bpf_core_type_id_kernel(struct ethhdr));
	return header->h_dest;
}

#endif
