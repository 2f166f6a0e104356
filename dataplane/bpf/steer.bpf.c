// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Which packets are tidegate's (T1), and what happens to them while their worker is away (T2).
 *
 * A packet is ours if it goes to a published front, or if its exact five-tuple stands in the flow
 * map. Ours is redirected to the socket of its receive queue; everything else passes to the kernel.
 * Nothing here changes a packet.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "parse.h"
#include "steer.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile struct steer_config config = { .stale_ns = 1000000000 };

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, INTERFACES_MAX);
	__type(key, __u32); /* ifindex */
	__type(value, struct interface);
} interfaces SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FRONTS_MAX);
	__type(key, struct front_key);
	__type(value, __u32); /* flags */
} fronts SEC(".maps");

/* Five-tuples of replies. Filled by the workers, each before it sends the flow's first packet. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1); /* set at load */
	__type(key, struct flow_key);
	__type(value, __u32); /* the worker that owns the flow */
} flows SEC(".maps");

/* Datagrams in fragments, known by their first. At the limit the one that was used least recently
 * is forgotten: its rest goes to a worker then, as if it had come before its first. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, DATAGRAMS_MAX);
	__type(key, struct datagram_key);
	__type(value, struct datagram);
} datagrams SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, QUEUES_MAX);
	__type(key, struct queue_key);
	__type(value, struct queue);
} queues SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, QUEUES_MAX);
	__type(key, __u32);
	__type(value, __u32);
} xsks SEC(".maps");

/* CLOCK_MONOTONIC nanoseconds of each worker's last beat, written through mmap. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, WORKERS_MAX);
	__type(key, __u32);
	__type(value, __u64);
} heartbeats SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, INTERFACES_MAX);
	__type(key, __u32); /* interface slot */
	__type(value, struct counters);
} counters SEC(".maps");

/* The flags of the front that a packet meets. A cluster IP is none where clients may be. */
static __always_inline __u32 *find_front(const struct interface *interface,
					 const struct packet *packet)
{
	struct front_key key = { .protocol = packet->key.protocol };
	__u32 *flags;

	__builtin_memcpy(key.address, packet->key.dst, sizeof(key.address));
	__builtin_memcpy(key.port, packet->key.dst_port, sizeof(key.port));
	flags = bpf_map_lookup_elem(&fronts, &key);
	return flags && *flags & FRONT_CLUSTER && !interface->is_for_pods ? 0 : flags;
}

/* The queue's entry, if its worker beats and its socket is there. */
static __always_inline struct queue *find_live_queue(struct xdp_md *ctx)
{
	struct queue_key key = { .ifindex = ctx->ingress_ifindex, .queue = ctx->rx_queue_index };
	struct queue *queue = bpf_map_lookup_elem(&queues, &key);
	__u64 *beat;
	__u32 index;

	if (!queue)
		return 0;
	beat = bpf_map_lookup_elem(&heartbeats, &queue->worker);
	/* Signed: the coarse clock lags, and the worker may have beaten after the tick. */
	if (!beat || (__s64)(bpf_ktime_get_coarse_ns() - *beat) > (__s64)config.stale_ns)
		return 0;
	index = queue->xsk_index;
	return bpf_map_lookup_elem(&xsks, &index) ? queue : 0;
}

static __always_inline bool is_sampled(void)
{
	return config.latency_sample && bpf_get_prandom_u32() % config.latency_sample == 0;
}

/* Without room before the frame it goes without: only latency and the owner's name are lost. */
static __always_inline void add_metadata(struct xdp_md *ctx, __u16 owner)
{
	struct metadata *metadata;

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*metadata)))
		return;
	metadata = (void *)(long)ctx->data_meta;
	if ((void *)(metadata + 1) > (void *)(long)ctx->data)
		return;
	metadata->magic = METADATA_MAGIC;
	metadata->owner = owner;
	metadata->zero = 0;
	metadata->stamp_ns = is_sampled() ? bpf_ktime_get_ns() : 0;
}

static __always_inline int pass(struct counters *count, __u32 reason)
{
	if (reason < PASS_REASONS)
		count->passed_packets[reason]++;
	return XDP_PASS;
}

/* Ours, but nobody is there to take it. The kernel may serve a new flow; to a packet of a live
 * flow it would answer with a reset, so that one is dropped: the peer sends it again. */
static __always_inline int refuse(struct counters *count, bool may_pass)
{
	if (may_pass)
		return pass(count, PASS_FALLBACK);
	count->stale_dropped_packets++;
	return XDP_DROP;
}

static __always_inline int send_up(struct xdp_md *ctx, struct counters *count, __u16 owner,
				   bool may_pass)
{
	struct queue *queue = find_live_queue(ctx);
	int action;

	if (!queue)
		return refuse(count, may_pass);
	action = bpf_redirect_map(&xsks, queue->xsk_index, may_pass ? XDP_PASS : XDP_DROP);
	/* The socket may have gone since find_live_queue: then the flags are the verdict. */
	if (action != XDP_REDIRECT)
		return refuse(count, may_pass);
	add_metadata(ctx, owner); /* after the verdict: passed frames never bear any */
	count->redirected_packets++;
	return action;
}

static __always_inline int classify(struct xdp_md *ctx, const struct interface *interface,
				    struct counters *count, const struct packet *packet)
{
	__u32 *flags = find_front(interface, packet), *owner;

	if (!flags) {
		owner = bpf_map_lookup_elem(&flows, &packet->key);
		return owner ? send_up(ctx, count, *owner, false) : pass(count, PASS_NO_SERVICE);
	}
	if (*flags & FRONT_DRAINING && (packet->is_syn || packet->key.protocol == IPPROTO_UDP))
		return pass(count, PASS_DRAINING_FRONT);
	return send_up(ctx, count, OWNER_NONE, packet->is_syn && !config.fallback_drop);
}

static __always_inline struct datagram_key datagram_of(const struct packet *packet)
{
	struct datagram_key key = { .id = packet->fragment_id, .protocol = packet->key.protocol };

	__builtin_memcpy(key.src, packet->key.src, sizeof(key.src));
	__builtin_memcpy(key.dst, packet->key.dst, sizeof(key.dst));
	return key;
}

/* The first fragment has ports, so it is known whose it is, and with it the datagram. */
static __always_inline int classify_first(struct xdp_md *ctx, const struct interface *interface,
					  struct counters *count, const struct packet *packet)
{
	struct datagram_key key = datagram_of(packet);
	struct datagram datagram = { .seen_ns = bpf_ktime_get_coarse_ns() };
	__u32 *owner = bpf_map_lookup_elem(&flows, &packet->key);

	datagram.owner = owner			     ? *owner :
			 find_front(interface, packet) ? OWNER_NONE :
							 OWNER_KERNEL;
	bpf_map_update_elem(&datagrams, &key, &datagram, BPF_ANY);
	if (datagram.owner == OWNER_KERNEL)
		return pass(count, PASS_FRAGMENT);
	return send_up(ctx, count, datagram.owner, false);
}

/* A later one is whose the first was. One that overtook it may be anybody's: a front's, a reply's,
 * the host's. It waits at a worker, which gives back what turns out not to be ours. */
static __always_inline int classify_later(struct xdp_md *ctx, struct counters *count,
					  const struct packet *packet)
{
	struct datagram_key key = datagram_of(packet);
	struct datagram *datagram = bpf_map_lookup_elem(&datagrams, &key);

	if (!datagram || bpf_ktime_get_coarse_ns() - datagram->seen_ns >= DATAGRAM_LIFETIME_NS)
		return send_up(ctx, count, OWNER_NONE, true);
	return datagram->owner == OWNER_KERNEL ? pass(count, PASS_FRAGMENT) :
						 send_up(ctx, count, OWNER_NONE, false);
}

SEC("xdp")
int steer(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	__u32 ifindex = ctx->ingress_ifindex, slot;
	struct interface *interface = bpf_map_lookup_elem(&interfaces, &ifindex);
	struct packet packet = {};
	struct counters *count;
	int reason;

	if (!interface)
		return XDP_PASS;
	slot = interface->slot;
	count = bpf_map_lookup_elem(&counters, &slot);
	if (!count)
		return XDP_PASS;
	/* The generic hook sees a frame again that the road brought back: counted the first time. */
	if ((void *)(eth + 1) <= end && is_same_mac(eth->h_source, config.road_mac))
		return XDP_PASS;
	count->received_packets++;
	count->received_bytes += end - data;
	reason = parse(ctx, interface, &packet);
	if (reason != PARSED)
		return pass(count, reason);
	if (packet.part == WHOLE)
		return classify(ctx, interface, count, &packet);
	return packet.part == FIRST_FRAGMENT ? classify_first(ctx, interface, count, &packet) :
					       classify_later(ctx, count, &packet);
}
