//! What can be typed after `demo` and `demo-pod`.

use clap::Args;

/// `tidegate demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Leave namespaces, servers and tidegate running, and print what to try
    #[arg(long)]
    pub keep: bool,
    /// Remove what an earlier `demo --keep` left, and do nothing else
    #[arg(long, conflicts_with = "keep")]
    pub remove: bool,
}

/// `tidegate demo-pod`: the server inside a pod of the demo.
#[derive(Debug, Clone, Args)]
pub struct PodArgs {
    /// The name that every answer carries
    #[arg(long)]
    pub name: String,
    /// TCP port of the HTTP server
    #[arg(long)]
    pub http: u16,
    /// UDP port of the echo
    #[arg(long)]
    pub udp: u16,
}
