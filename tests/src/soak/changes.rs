//! What changes every second.

use super::journal::Journal;
use super::stage::{COMER, Condition, IDLE, PASSING, Stage};
use crate::lab::{FAMILIES, FAR, Lab, NEAR, front};
use crate::load;
use crate::setting::wait_until;
use anyhow::{Context as _, Result};
use std::time::Duration;
use tidegate_control::admin::report::StatusReport;
use tidegate_control::demo::rig::Pod;
use tidegate_control::demo::site::Site;
use tidegate_dataplane::random::Random;

/// How long a change may take to be served, on a busy machine.
const CHANGE_MAX: Duration = Duration::from_secs(30);

/// An address that the gateway has now and then.
const EXTRA_ADDRESS: &str = "192.0.2.77/24";

/// One change.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// The comer's next step.
    Comer,
    /// The remote pod that is not always there gets another condition.
    Far,
    /// The local pod begins to terminate, or does not any more.
    Near,
    /// A Service comes or goes.
    Passing,
    /// The link of a pod that serves nobody goes down or up.
    Flap,
    /// The node gets an address, or loses it.
    Address,
}

/// All of them, again and again.
const ROUND: [Change; 9] = [
    Change::Comer,
    Change::Far,
    Change::Comer,
    Change::Passing,
    Change::Comer,
    Change::Near,
    Change::Flap,
    Change::Far,
    Change::Address,
];

/// Where the comer is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comer {
    Serving,
    Terminating,
    /// No new flow gets it; those that it has go on.
    Withdrawn,
    Unplugged,
    Plugged,
}

/// Makes the changes.
#[derive(Debug)]
pub(super) struct Changes<'l> {
    lab: &'l Lab,
    stage: Stage,
    random: Random,
    pub(super) journal: Journal,
    made: usize,
    comer: Comer,
    is_down: bool,
    has_address: bool,
}

impl<'l> Changes<'l> {
    /// Everything is as in the beginning.
    pub(super) fn new(lab: &'l Lab, seed: u64) -> Self {
        Self {
            lab,
            stage: Stage::new(),
            random: Random::new(seed),
            journal: Journal::new(),
            made: 0,
            comer: Comer::Serving,
            is_down: false,
            has_address: false,
        }
    }

    /// Publishes the Services and waits until they are served.
    pub(super) fn begin(&self) -> Result<()> {
        self.stage.publish(self.lab.site())?;
        self.lab.wait_for(COMER, true)
    }

    /// The next change.
    pub(super) fn make(&mut self) -> Result<()> {
        let change = ROUND[self.made % ROUND.len()];
        self.made += 1;
        match change {
            Change::Comer => self.step(),
            Change::Far => {
                let index = self.random.below(u32::try_from(Condition::ALL.len())?);
                self.turn(FAR[1], Condition::ALL[usize::try_from(index)?])
            }
            Change::Near => {
                let is_ready = self.stage.endpoints.get(NEAR) == Some(&Condition::Ready);
                self.turn(NEAR, if is_ready { Condition::Terminating } else { Condition::Ready })
            }
            Change::Passing => self.pass(),
            Change::Flap => self.flap(),
            Change::Address => self.address(),
        }
        .with_context(|| format!("{change:?}"))
    }

    /// Everything as in the beginning.
    pub(super) fn restore(&mut self) -> Result<()> {
        while self.comer != Comer::Serving {
            self.step()?;
        }
        for pod in [NEAR, FAR[1]] {
            self.turn(pod, Condition::Ready)?;
        }
        if self.stage.has_passing {
            self.pass()?;
        }
        if self.is_down {
            self.flap()?;
        }
        if self.has_address {
            self.address()?;
        }
        self.lab.wait_for(COMER, true)
    }

    fn turn(&mut self, pod: &'static str, condition: Condition) -> Result<()> {
        self.journal.turn(pod, condition);
        self.stage.endpoints.insert(pod, condition);
        self.stage.publish(self.lab.site())
    }

    fn step(&mut self) -> Result<()> {
        let gateway = self.lab.rig().gateway();
        self.comer = match self.comer {
            Comer::Serving => {
                self.turn(COMER, Condition::Terminating)?;
                Comer::Terminating
            }
            Comer::Terminating => {
                let gone = [Condition::Unready, Condition::Absent];
                let index = usize::try_from(self.random.below(2))?;
                self.turn(COMER, gone[index])?;
                self.lab.wait_for(COMER, false)?;
                Comer::Withdrawn
            }
            Comer::Withdrawn => {
                self.journal.unplug();
                let comer = pod(self.lab.site(), COMER)?;
                gateway.ip(&format!("link del {}", comer.host_interface()))?;
                Comer::Unplugged
            }
            Comer::Unplugged => {
                let comer = pod(self.lab.site(), COMER)?;
                comer.plug(gateway, comer.host_interface())?;
                self.journal.plug();
                Comer::Plugged
            }
            Comer::Plugged => {
                self.turn(COMER, Condition::Ready)?;
                Comer::Serving
            }
        };
        Ok(())
    }

    /// Notes when a worker had no heartbeat for long: what fails then fails for that.
    pub(super) fn note_stalls(&mut self) -> Result<()> {
        let status: StatusReport = self.lab.report("/api/v1/status")?;
        self.journal.note_gap(status.heartbeat_gap_milliseconds);
        Ok(())
    }

    /// A Service that has come is served by its next request on.
    fn pass(&mut self) -> Result<()> {
        self.stage.has_passing = !self.stage.has_passing;
        let verb = if self.stage.has_passing { "comes" } else { "goes" };
        self.journal.note(format!("a Service {verb}"));
        self.stage.publish(self.lab.site())?;
        if !self.stage.has_passing {
            return Ok(());
        }
        let client = self.lab.rig().client();
        let serves =
            |family| load::http(client, front(family, PASSING), 1, 1).is_ok_and(|a| a.failed == 0);
        let is_there = || FAMILIES.iter().all(|family| serves(*family));
        wait_until("the Service is served", CHANGE_MAX, is_there)?;
        for family in FAMILIES {
            self.lab.http(front(family, PASSING), 5)?;
        }
        Ok(())
    }

    fn flap(&mut self) -> Result<()> {
        self.is_down = !self.is_down;
        let word = if self.is_down { "down" } else { "up" };
        self.journal.note(format!("{IDLE}: its link goes {word}"));
        let interface = pod(self.lab.site(), IDLE)?.host_interface();
        self.lab.rig().gateway().ip(&format!("link set {interface} {word}"))?;
        Ok(())
    }

    fn address(&mut self) -> Result<()> {
        self.has_address = !self.has_address;
        let verb = if self.has_address { "add" } else { "del" };
        self.journal.note(format!("addr {verb} {EXTRA_ADDRESS}"));
        self.lab.rig().gateway().ip(&format!("addr {verb} {EXTRA_ADDRESS} dev eth0"))?;
        Ok(())
    }
}

fn pod<'s>(site: &'s Site, name: &str) -> Result<&'s Pod> {
    site.pod(name).with_context(|| format!("the pod {name}"))
}
