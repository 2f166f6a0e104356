/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The load lab's packets go to the queue's socket, all others to the kernel, so that a machine
 * stays reachable by the interface that a sink listens on. How a packet is known: the first two
 * bytes after its UDP or TCP header (bench/src/lab/wire/frame.rs).
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAGIC_FIRST 0x7d
#define MAGIC_SECOND 0x9a

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 64);
	__type(key, __u32);
	__type(value, __u32);
} sockets SEC(".maps");

SEC("xdp")
int sink(struct xdp_md *ctx)
{
	unsigned char *data = (unsigned char *)(long)ctx->data;
	unsigned char *end = (unsigned char *)(long)ctx->data_end;
	struct ethhdr *ethernet = (struct ethhdr *)data;
	unsigned char *transport, protocol;

	/* The least that any of ours has: Ethernet, IPv4, and as much again as UDP and a stamp. */
	if (data + 60 > end)
		return XDP_PASS;
	if (ethernet->h_proto == bpf_htons(ETH_P_IP)) {
		protocol = data[23];
		transport = data + 14 + (data[14] & 0xf) * 4;
	} else if (ethernet->h_proto == bpf_htons(ETH_P_IPV6)) {
		protocol = data[20];
		transport = data + 54;
	} else {
		return XDP_PASS;
	}
	if (protocol == IPPROTO_TCP) {
		if (transport + 13 > end)
			return XDP_PASS;
		transport += (transport[12] >> 4) * 4;
	} else if (protocol == IPPROTO_UDP) {
		transport += 8;
	} else {
		return XDP_PASS;
	}
	if (transport + 2 > end || transport[0] != MAGIC_FIRST || transport[1] != MAGIC_SECOND)
		return XDP_PASS;
	return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_PASS);
}

char _license[] SEC("license") = "Dual BSD/GPL";
