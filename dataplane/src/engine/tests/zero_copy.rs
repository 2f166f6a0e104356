//! Zero-copy frames come and go with the interface that they were bound by (T7). No veth has that
//! mode, so the pairs here are in copy mode on a UMEM of their own, and called zero-copy: what is
//! not tested is a driver's own part.

use super::{SLOT, assert_nothing_is_left, index, ip, request, wait_until, with_engine};
use crate::engine::{AttachRequest, CopyMode, Engine, EngineError};
use crate::types::InterfaceSlot;
use crate::xdp::socket::{BindRequest, BoundPair};
use crate::xdp::umem::{FramePool, PoolConfig};

const OTHER: InterfaceSlot = InterfaceSlot(2);

const POOL: PoolConfig = PoolConfig { frames: 2048, frame_size_bytes: 2048, ring_size: 1024 };

fn other() -> AttachRequest {
    AttachRequest { slot: OTHER, name: "other".into(), index: index("other"), ..request() }
}

/// What a driver with zero-copy would have granted.
fn attach(engine: &mut Engine, of: &AttachRequest) -> Result<(), EngineError> {
    engine.attach(&AttachRequest { queues: vec![], ..of.clone() })?;
    let mode = Some(CopyMode::Copy);
    let bind = BindRequest { slot: of.slot, name: &of.name, queue: 0, mode, ring_size: 256 };
    let (mut pair, pool) = if let Some(shared) = &engine.workers[0].zero_copy {
        (BoundPair::bind(&shared.umem, &bind)?, None)
    } else {
        let pool = FramePool::try_new(POOL)?;
        (BoundPair::bind(pool.umem(), &bind)?, Some(pool))
    };
    pair.mode = CopyMode::ZeroCopy;
    let bound = engine.hand_over(0, of, (pair, pool, None))?;
    engine.attached.get_mut(&of.slot).unwrap().queues.push(bound);
    Ok(())
}

fn frames(engine: &Engine) -> u64 {
    engine.workers[0].counters.work.frames_total.get()
}

#[test]
fn the_frames_go_with_the_last_pair_and_the_next_brings_its_own() {
    with_engine(|engine| {
        wait_until("frames are counted", || frames(engine) > 0);
        let before = frames(engine);
        for _ in 0..3 {
            attach(engine, &request()).unwrap();
            wait_until("its frames are there", || frames(engine) == before + 2048);
            engine.detach(SLOT);
            assert!(engine.workers[0].zero_copy.is_none());
            wait_until("its frames are gone", || frames(engine) == before);
        }
        assert_nothing_is_left(engine);
    });
}

#[test]
fn an_interface_that_shares_frames_with_one_that_vanished_is_bound_anew() {
    with_engine(|engine| {
        ip("link add other type veth peer name third");
        attach(engine, &request()).unwrap();
        attach(engine, &other()).unwrap();
        assert_eq!(engine.lost(), []);
        ip("link del outer");
        engine.detach(SLOT);
        ip("link add outer type veth peer name client");
        assert_eq!(attach(engine, &request()).unwrap_err().errno, libc::EBADF, "by a dead socket");
        engine.detach(SLOT);
        let zero_copy = AttachRequest { copy_mode: CopyMode::Auto, ..request() };
        assert_eq!(engine.attach(&zero_copy).unwrap_err().errno, libc::EAGAIN, "it is not tried");
        let program = |engine: &Engine| engine.attached[&OTHER].program.as_ref().unwrap().id();
        let before = program(engine);
        assert_eq!((engine.lost(), engine.release_closed_frames()), (vec![], vec![OTHER]));
        assert_eq!(engine.release_closed_frames(), []);
        assert_eq!(program(engine), before, "what comes meanwhile is not the kernel's");
        for of in [request(), other()] {
            wait_until("the old frames are gone", || attach(engine, &of).is_ok());
        }
        assert_eq!(program(engine), before);
        assert_eq!((engine.lost(), engine.release_closed_frames()), (vec![], vec![]));
        engine.detach(OTHER);
        assert_eq!(engine.lost(), [], "the first is still there");
        engine.detach(SLOT);
        assert_nothing_is_left(engine);
    });
}
