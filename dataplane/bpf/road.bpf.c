// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * The road back to the kernel (T8): the ingress program of `tidegate1`. A frame that a worker gave
 * back arrives here with a trailer that names the interface it came from; it loses the trailer and
 * enters that interface's receive path.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include "steer.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

const volatile struct road_config config = {};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ROAD_COUNTERS);
	__type(key, __u32); /* enum road_counter */
	__type(value, __u64);
} road_counters SEC(".maps");

static __always_inline int finish(__u32 counter, int action)
{
	__u64 *count = bpf_map_lookup_elem(&road_counters, &counter);

	if (count)
		++*count;
	return action;
}

SEC("tc")
int road(struct __sk_buff *skb)
{
	struct road_trailer trailer;
	__u32 length = skb->len;
	__u8 mac[ETH_ALEN];

	if (length < ETH_HLEN + sizeof(trailer) ||
	    bpf_skb_load_bytes(skb, length - sizeof(trailer), &trailer, sizeof(trailer)) ||
	    trailer.magic != config.magic ||
	    bpf_skb_change_tail(skb, length - sizeof(trailer), 0))
		return finish(ROAD_REFUSED, TC_ACT_SHOT);
	/* Where the interface has the generic hook, the frame meets the steering program again,
	 * which knows it by this source address. Nothing above L2 looks at it. */
#pragma unroll
	for (int byte = 0; byte < ETH_ALEN; byte++)
		mac[byte] = config.road_mac[byte]; /* volatile: memcpy would copy the zeros above */
	if (bpf_skb_store_bytes(skb, ETH_ALEN, mac, sizeof(mac), 0))
		return finish(ROAD_REFUSED, TC_ACT_SHOT);
	return finish(ROAD_RETURNED, bpf_redirect(trailer.ifindex, BPF_F_INGRESS));
}
