/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The generator: run by BPF_PROG_TEST_RUN with live frames, it fills each frame with the next
 * flow's packet and sends it out of an interface. The frame is written whole each time, since
 * recycled frames come back as the receiver left them.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FRAME_BYTES 60
#define PORTS 32768     /* source ports per source address: FLOW_PORTS of src/generator/frame.rs */
#define PORT_FIRST 1024 /* FLOW_PORT_FIRST there */

/* Set once, before loading. Struct BlastConfig of src/generator/live.rs. */
struct blast_config {
	__u8 template[64]; /* the packet; source address's low half, source port and sums are 0 */
	__u32 ifindex;
	__u32 flows;
	__u32 address_low; /* low half of the first source address */
	__u32 ip_sum;      /* of the template's IP header */
	__u32 udp_sum;     /* of its pseudo-header, UDP header and payload */
	__u32 zero;
};

const volatile struct blast_config config = {};

__u32 next_flow = 0;

static __always_inline __u16 finish(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

SEC("xdp")
int blast(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const volatile __u32 *template = (const volatile __u32 *)config.template;
	__u32 flow = next_flow;
	__u16 port, address, sum;
	__u32 *words = data;
	int i;

	if (data + FRAME_BYTES > end)
		return XDP_ABORTED;
#pragma unroll
	for (i = 0; i < FRAME_BYTES / 4; i++)
		words[i] = template[i];
	next_flow = flow + 1 < config.flows ? flow + 1 : 0;
	port = bpf_htons(PORT_FIRST + flow % PORTS);
	address = bpf_htons(config.address_low + flow / PORTS);
	*(__u16 *)(data + 28) = address;
	*(__u16 *)(data + 34) = port;
	*(__u16 *)(data + 24) = finish(config.ip_sum + address);
	sum = finish(config.udp_sum + address + port);
	/* A sum of 0 goes out as its complement (RFC 768). */
	*(__u16 *)(data + 40) = sum ? sum : 0xffff;
	return bpf_redirect(config.ifindex, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
