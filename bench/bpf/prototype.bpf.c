/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * How fast could the XDP program itself forward established flows? Full NAT from a table that
 * somebody else has filled: no packet goes to user space, and nothing is kept of any. A packet
 * without an entry is dropped and counted.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/types.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FRAGMENT_BITS 0x3fff
#define UDP_SUM_AT 6
#define TCP_SUM_AT 16

/* Struct FlowTuple of src/rivals/forwarder/prototype.rs. */
struct flow_tuple {
	__be32 source, destination;
	__be16 source_port, destination_port;
	__u32 protocol;
};

/* What a flow's packets become. Struct Rewrite there. */
struct rewrite {
	__be32 source, destination;
	__be16 source_port, destination_port;
	__u16 addresses, ports; /* checksum differences (RFC 1624 equation 3) */
	__u8 macs[12];          /* destination, source */
	__u32 ifindex;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 131072);
	__type(key, struct flow_tuple);
	__type(value, struct rewrite);
} flows SEC(".maps");

struct prototype_state {
	__u64 missed;
};

struct prototype_state state = {};

static __always_inline __u16 updated(__u16 sum, __u32 differences)
{
	differences += (__u16)~sum;
	differences = (differences & 0xffff) + (differences >> 16);
	differences = (differences & 0xffff) + (differences >> 16);
	return ~differences;
}

static __always_inline void translate_ip(struct iphdr *ip, const struct rewrite *rewrite)
{
	__u16 *ttl_and_protocol = (__u16 *)&ip->ttl;
	__u16 before = *ttl_and_protocol;

	ip->ttl--;
	ip->check = updated(ip->check, (__u16)~before + *ttl_and_protocol + rewrite->addresses);
	ip->saddr = rewrite->source;
	ip->daddr = rewrite->destination;
}

static __always_inline void translate_l4(__be16 *ports, __u16 *sum, const struct rewrite *rewrite,
					 __u8 protocol)
{
	__u16 new = updated(*sum, rewrite->addresses + rewrite->ports);

	ports[0] = rewrite->source_port;
	ports[1] = rewrite->destination_port;
	if (protocol == IPPROTO_TCP)
		*sum = new;
	else if (*sum) /* No checksum stays none; 0 goes out as its complement (RFC 768). */
		*sum = new ? new : 0xffff;
}

SEC("xdp")
int prototype(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct iphdr *ip = (void *)(eth + 1);
	void *l4 = ip + 1;
	__be16 *ports = l4;
	struct flow_tuple tuple = {};
	struct rewrite *rewrite;
	__u16 *sum;

	if (l4 + 4 > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (ip->ihl != 5 || ip->frag_off & bpf_htons(FRAGMENT_BITS) || ip->ttl < 2)
		return XDP_PASS;
	if (ip->protocol == IPPROTO_UDP)
		sum = l4 + UDP_SUM_AT;
	else if (ip->protocol == IPPROTO_TCP)
		sum = l4 + TCP_SUM_AT;
	else
		return XDP_PASS;
	if ((void *)(sum + 1) > end)
		return XDP_PASS;
	tuple.source = ip->saddr;
	tuple.destination = ip->daddr;
	tuple.source_port = ports[0];
	tuple.destination_port = ports[1];
	tuple.protocol = ip->protocol;
	rewrite = bpf_map_lookup_elem(&flows, &tuple);
	if (!rewrite) {
		__sync_fetch_and_add(&state.missed, 1);
		return XDP_DROP;
	}
	translate_ip(ip, rewrite);
	translate_l4(ports, sum, rewrite, tuple.protocol);
	__builtin_memcpy(eth, rewrite->macs, sizeof(rewrite->macs));
	return bpf_redirect(rewrite->ifindex, 0);
}

char _license[] SEC("license") = "Dual BSD/GPL";
