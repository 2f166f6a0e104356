//! How packets meet the workers: what holds for one worker must hold for two, whichever of them a
//! packet reaches.

use crate::lab::{Lab, configure};
use crate::shuffle::shuffle;
use anyhow::{Context as _, Result};
use tidegate_control::demo::rig::{RigPlan, Topology};
use tidegate_control::demo::site::Site;

/// All of them.
pub const SPREADS: [Spread; 2] = [Spread::OneQueue, Spread::Shuffled];

/// How packets meet the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// One queue per interface, one worker.
    OneQueue,
    /// Two queues, a worker each, and every packet to the gateway on one of them by chance.
    Shuffled,
}

impl Spread {
    /// Receive queues of each interface.
    pub(crate) const fn queues(self) -> u32 {
        match self {
            Self::OneQueue => 1,
            Self::Shuffled => 2,
        }
    }

    pub(crate) fn plan(self, plan: &RigPlan) -> RigPlan {
        match self {
            Self::OneQueue => plan.clone(),
            Self::Shuffled => plan.clone().queues(self.queues()),
        }
    }

    /// The daemon's configuration with as many workers.
    #[must_use]
    pub fn config(self, text: String) -> String {
        match self {
            Self::OneQueue => text,
            Self::Shuffled => text.replace("cpus: auto", "cpus: [0, 1]"),
        }
    }

    pub(crate) fn apply(self, rig: &Topology) -> Result<()> {
        match self {
            Self::OneQueue => Ok(()),
            Self::Shuffled => shuffle(rig),
        }
    }
}

impl Lab {
    /// As [`Lab::start`], with packets spread so.
    ///
    /// # Errors
    /// See [`Lab::start`]; or the packets cannot be shuffled.
    pub fn spread(spread: Spread, plan: &RigPlan, changes: &[(&str, &str)]) -> Result<Self> {
        Self::spread_with(spread, plan, |_| configure(changes))
    }

    /// As [`Lab::start_with`], with packets spread so.
    ///
    /// # Errors
    /// See [`Lab::spread`].
    pub fn spread_with(
        spread: Spread,
        plan: &RigPlan,
        prepare: impl FnOnce(&Site) -> Result<String>,
    ) -> Result<Self> {
        let prepare = |site: &Site| Ok(spread.config(prepare(site)?));
        let lab = Self::start_with(&spread.plan(plan), prepare)?;
        spread.apply(lab.rig())?;
        Ok(lab)
    }
}

/// Checks in every spread, in a lab of its own each, whose books must balance at the end.
///
/// # Errors
/// The first of a check, or of [`Lab::spread`].
pub fn in_each_spread(changes: &[(&str, &str)], check: impl Fn(&Lab) -> Result<()>) -> Result<()> {
    for spread in SPREADS {
        let lab = Lab::spread(spread, &RigPlan::new("test"), changes)?;
        check(&lab).and_then(|()| lab.finish()).with_context(|| format!("{spread:?}"))?;
    }
    Ok(())
}
