// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Keeps the host's own flows and ours from one tuple towards one backend (T5): a netfilter program
 * behind the host's source NAT, where every packet that the host sends or forwards has its last
 * addresses and ports, and conntrack has not yet taken a new flow for confirmed.
 *
 * A first packet whose answers would be taken for ours is dropped. Its flow is forgotten with it,
 * so that the repeated packet gets another port from the NAT. All other flows with one of our
 * source ports are noted, and the workers give their tuples to nobody.
 */
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/netfilter.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <stdbool.h>
#include "steer.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile struct guard_config config = {};

/* The steering program's; shared at load. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__type(key, struct flow_key);
	__type(value, __u32);
} flows SEC(".maps");

/* By hash of the tuple of the answers: the second of CLOCK_MONOTONIC until which it is the host's.
 * Two tuples of one hash are as one: then a port too many is passed over. Read through mmap. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, HOST_SLOTS);
	__type(key, __u32);
	__type(value, __u64);
} host_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} held_back SEC(".maps");

/* The kernel's (include/net/netfilter/nf_bpf_link.h); the verifier knows the second as an skb. */
struct bpf_nf_ctx {
	const void *state;
	void *skb;
};

extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *ptr) __ksym;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *ptr, __u32 offset, void *buffer,
			      __u32 buffer__szk) __ksym;

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16, TCP_FLAGS_OFFSET = 13 };

struct ports {
	__u8 source[2];
	__u8 destination[2];
};

/* The addresses of a packet's answer. Returns where the L4 header begins; 0 if there is none. */
static __always_inline __u32 parse_v4(const struct bpf_dynptr *packet, struct flow_key *answer)
{
	struct iphdr room;
	const struct iphdr *ip = bpf_dynptr_slice(packet, 0, &room, sizeof(room));

	if (!ip || ip->version != 4 || ip->ihl < 5 || ip->frag_off & bpf_htons(0x1fff))
		return 0;
	answer->src[10] = answer->src[11] = answer->dst[10] = answer->dst[11] = 0xff;
	__builtin_memcpy(answer->src + 12, &ip->daddr, 4);
	__builtin_memcpy(answer->dst + 12, &ip->saddr, 4);
	answer->protocol = ip->protocol;
	return ip->ihl * 4;
}

/* Without extension headers: a stack's own TCP and UDP have none. */
static __always_inline __u32 parse_v6(const struct bpf_dynptr *packet, struct flow_key *answer)
{
	struct ipv6hdr room;
	const struct ipv6hdr *ip = bpf_dynptr_slice(packet, 0, &room, sizeof(room));

	if (!ip || ip->version != 6)
		return 0;
	__builtin_memcpy(answer->src, &ip->daddr, 16);
	__builtin_memcpy(answer->dst, &ip->saddr, 16);
	answer->protocol = ip->nexthdr;
	return sizeof(*ip);
}

/* `HostFlows::slot_of` in Rust does the same. */
static __always_inline __u32 slot_of(const struct flow_key *answer)
{
	__u64 words[sizeof(*answer) / 8], hash = 0;

	__builtin_memcpy(words, answer, sizeof(words));
#pragma unroll
	for (unsigned int i = 0; i < sizeof(words) / 8; i++) {
		hash = (hash ^ words[i]) * HOST_HASH_FACTOR;
		hash ^= hash >> 32;
	}
	return hash & (HOST_SLOTS - 1);
}

/* A closed connection rests as long as TIME_WAIT and conntrack let it, an open one for as long as
 * it may be idle before its stack probes it. The last ACK does not open it again. */
static __always_inline void note(__u64 *until, __u64 now, __u8 protocol, __u8 flags)
{
	__u64 left = *until > now ? *until - now : 0, hold = HOST_OPEN_SECONDS;

	if (protocol == IPPROTO_UDP || flags & (TCP_FIN | TCP_RST))
		hold = HOST_REST_SECONDS;
	else if (!(flags & TCP_SYN) && left && left <= HOST_REST_SECONDS)
		return;
	if (*until != now + hold)
		*until = now + hold;
}

static __always_inline int hold_back(void)
{
	__u32 only = 0;
	__u64 *count = bpf_map_lookup_elem(&held_back, &only);

	if (count)
		++*count;
	return NF_DROP;
}

static __always_inline int judge(const struct bpf_dynptr *packet, struct flow_key *answer, __u32 l4)
{
	struct ports room_for_ports;
	const struct ports *ports = bpf_dynptr_slice(packet, l4, &room_for_ports, 4);
	__u64 now = bpf_ktime_get_ns() / 1000000000, *until;
	__u8 room_for_flags;
	const __u8 *flags = &room_for_flags;
	__u32 slot;
	__u16 port;
	bool is_first;

	if (!ports)
		return NF_ACCEPT;
	port = ports->source[0] << 8 | ports->source[1];
	if (port < config.first_port || port > config.last_port)
		return NF_ACCEPT;
	__builtin_memcpy(answer->src_port, ports->destination, 2);
	__builtin_memcpy(answer->dst_port, ports->source, 2);
	room_for_flags = 0;
	if (answer->protocol == IPPROTO_TCP)
		flags = bpf_dynptr_slice(packet, l4 + TCP_FLAGS_OFFSET, &room_for_flags, 1);
	slot = slot_of(answer);
	until = bpf_map_lookup_elem(&host_flows, &slot);
	if (!flags || !until)
		return NF_ACCEPT;
	is_first = answer->protocol == IPPROTO_TCP ? (*flags & (TCP_SYN | TCP_ACK)) == TCP_SYN :
						     *until <= now;
	if (bpf_map_lookup_elem(&flows, answer)) {
		/* Of a packet of ours that reached the host's stack, the stack knows nothing and
		 * resets. A flow that the host has would have shown itself before it ends. */
		if (is_first || (answer->protocol == IPPROTO_TCP && *flags & TCP_RST))
			return hold_back();
		/* The host's was there before: its answers are its own again. */
		bpf_map_delete_elem(&flows, answer);
	}
	note(until, now, answer->protocol, *flags);
	return NF_ACCEPT;
}

static __always_inline int guard(struct bpf_nf_ctx *ctx, bool is_v4)
{
	struct flow_key answer = {};
	struct bpf_dynptr packet;
	__u32 l4;

	if (bpf_dynptr_from_skb(ctx->skb, 0, &packet))
		return NF_ACCEPT;
	l4 = is_v4 ? parse_v4(&packet, &answer) : parse_v6(&packet, &answer);
	if (!l4 || (answer.protocol != IPPROTO_TCP && answer.protocol != IPPROTO_UDP))
		return NF_ACCEPT;
	return judge(&packet, &answer, l4);
}

SEC("netfilter")
int guard_v4(struct bpf_nf_ctx *ctx)
{
	return guard(ctx, true);
}

SEC("netfilter")
int guard_v6(struct bpf_nf_ctx *ctx)
{
	return guard(ctx, false);
}
