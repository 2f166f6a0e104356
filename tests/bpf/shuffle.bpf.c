// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/*
 * Sends each packet by a transmit queue by chance; the other end of a veth receives it on the queue
 * of the same number. The kernel would keep to the queue that the sending socket had last; a clone
 * has no socket.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

static long (*clone_redirect)(struct __sk_buff *, __u32, __u64) = (void *)BPF_FUNC_clone_redirect;
static __u32 (*random_number)(void) = (void *)BPF_FUNC_get_prandom_u32;

/* Marks a clone on its way out. */
#define SHUFFLED 0x7175

/* Its sender has chosen: queue 0 with this mark, queue 1 with the next. */
#define CHOSEN 0x7180

__attribute__((section("classifier"), used)) int shuffle(struct __sk_buff *skb)
{
	__u32 queue = random_number() & 1;

	if (skb->mark == SHUFFLED)
		return TC_ACT_OK;
	if ((skb->mark & ~1U) == CHOSEN)
		queue = skb->mark & 1;
	skb->mark = SHUFFLED;
	/* As if received on queue 0 or 1, and one more: 0 means none. */
	skb->queue_mapping = 1 + queue;
	return clone_redirect(skb, skb->ifindex, 0) ? TC_ACT_OK : TC_ACT_STOLEN;
}
