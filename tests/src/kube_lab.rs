//! tidegate in its demo's cluster, told of it by an API server in the gateway's namespace.

use crate::api_server::{ApiServer, Door};
use crate::lab::{FAMILIES, FAR, Lab, NEAR};
use crate::objects::{node, service, slice};
use crate::spread::Spread;
use anyhow::{Context as _, Result, ensure};
use core::net::SocketAddr;
use std::net::TcpListener;
use tempfile::TempDir;
use tidegate_control::admin::report::StatusReport;
use tidegate_control::demo::rig::{NetNs, RigPlan, gateway_of};
use tidegate_control::demo::site::{CONFIG, HTTP_CLUSTER, Site};

/// The Service that all tests dial, on [`HTTP_CLUSTER`].
pub const WEB: &str = "web";

const TOKEN: &str = "the gateway's token";

/// tidegate, its cluster and the API server.
#[derive(Debug)]
pub struct KubeLab {
    /// tidegate and its cluster.
    pub lab: Lab,
    /// The API server.
    pub server: ApiServer,
    config: String,
    _state: TempDir,
}

impl KubeLab {
    /// Builds it and waits until tidegate uses all three pods for the Service [`WEB`].
    ///
    /// # Errors
    /// We are not root, or something does not start.
    pub fn start(spread: Spread) -> Result<Self> {
        let state = tempfile::tempdir()?;
        let mut made = None;
        let lab = Lab::spread_with(spread, &RigPlan::new("test"), |site| {
            let gateway = site.topology().gateway();
            let server =
                ApiServer::start_on(Door::Tls, listen(gateway, ([127, 0, 0, 1], 0).into())?)?;
            server.set_tokens(Some(&[TOKEN]));
            fill(&server, site)?;
            let config = config(&server, &state)?;
            made = Some((server, config.clone()));
            Ok(config)
        })?;
        let (server, config) = made.context("a prepared server")?;
        Ok(Self { lab, server, config, _state: state })
    }

    /// Makes these pods the endpoints of a Service.
    ///
    /// # Errors
    /// There is no such pod.
    pub fn set_endpoints(&self, service: &str, pods: &[&str]) -> Result<()> {
        set_endpoints(&self.server, self.lab.site(), service, pods)
    }

    /// The API server serves again.
    ///
    /// # Errors
    /// Its port is taken.
    pub fn resume(&mut self) -> Result<()> {
        let listener = listen(self.lab.rig().gateway(), self.server.address())?;
        self.server.resume_on(listener)
    }

    /// Ends tidegate as `kill -9` does and starts it again; returns when it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn restart_daemon(&mut self) -> Result<()> {
        let site = self.lab.site_mut();
        site.daemon_mut().context("a running tidegate")?.process().kill();
        site.start_daemon(&self.config)?;
        Ok(())
    }

    /// What tidegate says of itself.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self) -> Result<StatusReport> {
        self.lab.report("/api/v1/status")
    }
}

fn listen(netns: &NetNs, address: SocketAddr) -> Result<TcpListener> {
    Ok(netns.enter(|| TcpListener::bind(address))??)
}

fn config(server: &ApiServer, state: &TempDir) -> Result<String> {
    let file = "source:\n  kind: file\n  file: /etc/tidegate/manifests\n";
    ensure!(CONFIG.contains(file), "the demo's config reads no manifests");
    let kubeconfig = server.kubeconfig(&format!("{{token: {TOKEN:?}}}"))?;
    let (kubeconfig, state) = (kubeconfig.display(), state.path().display());
    let kubernetes = format!(
        "source:\n  kind: kubernetes\nclientConnection:\n  kubeconfig: {kubeconfig}\n\
         stateDirectory: {state}\n"
    );
    Ok(CONFIG.replace(file, &kubernetes))
}

fn fill(server: &ApiServer, site: &Site) -> Result<()> {
    let addresses = FAMILIES.map(|family| gateway_of(family).to_string());
    server.apply(node("gateway", &addresses.each_ref().map(String::as_str)))?;
    server.apply(service(WEB, HTTP_CLUSTER))?;
    set_endpoints(server, site, WEB, &[NEAR, FAR[0], FAR[1]])
}

fn set_endpoints(server: &ApiServer, site: &Site, service: &str, pods: &[&str]) -> Result<()> {
    for (family, name) in FAMILIES.into_iter().zip(["v4", "v6"]) {
        let of_pod = |name: &&str| {
            let pod = site.pod(name).context("a pod of that name")?;
            Ok(pod.address_of(family).to_string())
        };
        let addresses: Vec<String> = pods.iter().map(of_pod).collect::<Result<_>>()?;
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        server.apply(slice(&format!("{service}-{name}"), service, &addresses))?;
    }
    Ok(())
}
