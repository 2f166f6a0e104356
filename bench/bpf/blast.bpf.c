/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The generator: run by BPF_PROG_TEST_RUN with live frames, it fills each frame with the next
 * flow's packet and sends it out of an interface. The frame is written whole each time, since
 * recycled frames come back as the receiver left them. It keeps the time itself: to begin and end a
 * run costs the kernel milliseconds, so one run has to last.
 */
#include <linux/bpf.h>
#include <linux/types.h>
#include <stdbool.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define FRAME_BYTES 60
#define PORTS 32768     /* source ports per source address: FLOW_PORTS of src/generator/frame.rs */
#define PORT_FIRST 1024 /* FLOW_PORT_FIRST there */
#define BATCH 64        /* frames that the kernel sends together */
#define LATE_NS 100000  /* later than this, the lost time is not made up for by a burst */
#define WAIT_MAX (1 << 20)

/* Set once, before loading. Struct BlastConfig of src/generator/live.rs. */
struct blast_config {
	__u8 template[64]; /* the packet; source address's low half, source port and sums are 0 */
	__u32 ifindex;
	__u32 flows;
	__u32 address_low; /* low half of the first source address */
	__u32 ip_sum;      /* of the template's IP header */
	__u32 udp_sum;     /* of its pseudo-header, UDP header and payload */
	__u32 zero;
	__u64 spacing_ps;  /* from one packet to the next; 0 = none */
	__u64 duration_ns; /* nothing is sent after */
};

const volatile struct blast_config config = {};

/* What was done. Struct BlastState of src/generator/live.rs. */
struct blast_state {
	__u64 start_ns;
	__u64 due_ns; /* the last batch's */
	__u64 sent;
	__u64 flow; /* the next packet's */
};

struct blast_state state = {};

static __always_inline __u16 finish(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static long is_due(__u32 index, void *due_ns)
{
	(void)index;
	return bpf_ktime_get_ns() >= *(__u64 *)due_ns;
}

/* At the start of a batch: waits until it is due. False once the time is over. */
static __always_inline bool await_batch(void)
{
	__u64 now = bpf_ktime_get_ns(), due_ns = state.due_ns + BATCH * config.spacing_ps / 1000;

	if (!state.start_ns)
		state.start_ns = due_ns = now;
	if (now < due_ns)
		bpf_loop(WAIT_MAX, is_due, &due_ns, 0);
	else if (now - due_ns > LATE_NS)
		due_ns = now;
	state.due_ns = due_ns;
	return now - state.start_ns < config.duration_ns;
}

SEC("xdp")
int blast(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const volatile __u32 *template = (const volatile __u32 *)config.template;
	__u32 flow = state.flow;
	__u16 port, address, sum;
	__u32 *words = data;
	int i;

	if (data + FRAME_BYTES > end)
		return XDP_ABORTED;
	if (state.sent % BATCH == 0 && !await_batch())
		return XDP_DROP;
	state.sent++;
#pragma unroll
	for (i = 0; i < FRAME_BYTES / 4; i++)
		words[i] = template[i];
	state.flow = flow + 1 < config.flows ? flow + 1 : 0;
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
