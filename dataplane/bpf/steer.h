/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What the XDP program and the Rust side share: limits, numbers and layouts.
 * `src/xdp/layout.rs` holds the same in Rust; its tests read this file and compare the limits, the
 * names and the order of the reasons.
 */
#ifndef TIDEGATE_STEER_H
#define TIDEGATE_STEER_H

#include <linux/types.h>

#define INTERFACES_MAX 256
#define FRONTS_MAX 131072
#define QUEUES_MAX 1024
#define WORKERS_MAX 64
#define DATAGRAMS_MAX 4096
#define VLANS_MAX 4096

/* IPv6 extension headers in one packet: all that RFC 8200 section 4.1 knows, destination options
 * twice. */
#define IPV6_EXTENSIONS_MAX 6

/* Why a packet passed to the kernel: `PassReason` of src/verdict.rs, in its order. */
enum pass_reason {
	PASS_NOT_IP,
	PASS_NO_SERVICE,
	PASS_FRAGMENT,
	PASS_VLAN_TAGGED,
	PASS_MALFORMED,
	PASS_OTHERHOST,
	PASS_DRAINING_FRONT,
	PASS_FALLBACK,
	PASS_FRONT_GONE,
	PASS_TCP_NOT_SYN,
	PASS_LOCAL_BACKEND,
	PASS_REASONS,
};

/* Set once, before loading. */
struct steer_config {
	__u64 stale_ns;       /* a heartbeat older than this is stale */
	__u32 latency_sample; /* stamp one packet in this many; 0 = none */
	__u32 fallback_drop;  /* 1: new flows of a stale worker are dropped, not passed */
	__u8 road_mac[6];     /* source address of frames that came back by the road */
	__u8 zero[2];
};

/* Addresses are 16 wire bytes, IPv4 in mapped form; ports are two wire bytes. */
struct front_key {
	__u8 address[16];
	__u8 port[2];
	__u8 protocol;
	__u8 zero;
};

#define FRONT_DRAINING 1
#define FRONT_CLUSTER 2 /* a cluster IP: a front for pods alone */

struct flow_key {
	__u8 src[16];
	__u8 dst[16];
	__u8 src_port[2];
	__u8 dst_port[2];
	__u8 protocol;
	__u8 zero[3];
};

/* A datagram in fragments: addresses, protocol and the sender's number for it. */
struct datagram_key {
	__u8 src[16];
	__u8 dst[16];
	__u32 id;
	__u8 protocol;
	__u8 zero[3];
};

struct datagram {
	__u64 seen_ns; /* when its first fragment came */
	__u32 owner;   /* the worker that owns the reply's flow, OWNER_NONE, or OWNER_KERNEL */
	__u32 zero;
};

/* A datagram is known for as long: as in src/datagrams.rs. */
#define DATAGRAM_LIFETIME_NS 1000000000

/* Not one of ours: its port has no front. */
#define OWNER_KERNEL 0xfffe

struct interface {
	__u16 slot;
	__u8 mac[6];
	__u8 is_for_pods; /* only pods are behind it: cluster IPs are fronts here */
	__u8 zero;
};

struct vlan_key {
	__u32 ifindex;
	__u16 id;
	__u16 zero;
};

struct queue_key {
	__u32 ifindex;
	__u32 queue;
};

struct queue {
	__u32 xsk_index;
	__u32 worker;
};

struct counters {
	__u64 received_packets;
	__u64 received_bytes;
	__u64 redirected_packets;
	__u64 stale_dropped_packets;
	__u64 passed_packets[PASS_REASONS];
};

/* In the 16 bytes before a redirected frame (T16). */
#define METADATA_MAGIC 0x74696465 /* "tide" */
#define OWNER_NONE 0xffff

struct metadata {
	__u32 magic;
	__u16 owner;    /* the worker that owns the flow, or OWNER_NONE */
	__u16 zero;
	__u64 stamp_ns; /* CLOCK_MONOTONIC, or 0 where not sampled */
};

/* Set once, before loading (road.bpf.c). */
struct road_config {
	__u32 magic;      /* random per start */
	__u8 road_mac[6]; /* as in steer_config */
	__u8 zero[2];
};

/* The last 8 bytes of a frame on the road back to the kernel (T8). */
struct road_trailer {
	__u32 magic;
	__u32 ifindex; /* where the frame came from */
};

enum road_counter {
	ROAD_RETURNED,
	ROAD_REFUSED,
	ROAD_COUNTERS,
};

/* The host's own flows with one of our source ports (guard.bpf.c): marks, a power of two; how long
 * the tuple of one that is open or rests is left alone. */
#define HOST_SLOTS 262144
#define HOST_HASH_FACTOR 0x9e3779b97f4a7c15
#define HOST_OPEN_SECONDS 7500 /* an idle connection is probed after 7200 */
#define HOST_REST_SECONDS 120  /* TIME_WAIT, and conntrack's UDP stream */

/* Set once, before loading (guard.bpf.c). */
struct guard_config {
	__u16 first_port;
	__u16 last_port;
};

#endif
