//! `tidegate get`: lists, in kubectl's look.

use crate::admin::report::{
    BackendReport, DropsReport, FlowReport, InterfaceReport, List, NeighborReport, ServiceReport,
    WorkerReport,
};
use crate::admin::{Client, EventReport};
use crate::cli::args::Output;
use crate::cli::output::{Format, print, to_json, to_yaml};
use crate::cli::view::kubectl::Shown;
use crate::cli::view::row::{Namespaced, Rows, render, render_from};
use crate::cli::view::{drops, names};
use crate::fault::Fault;
use clap::{Args, Subcommand};
use k8s_openapi::api::core::v1 as core;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Write as _};
use std::time::SystemTime;

/// Arguments of `tidegate get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    #[command(subcommand)]
    list: ListCommand,
}

/// What there is to list.
#[derive(Debug, Subcommand)]
enum ListCommand {
    /// Service ports: node port, policy, backends, flows, rates; with -A as kubectl lists Services
    #[command(visible_alias = "svc")]
    Services(NamespacedArgs),
    /// Ready endpoints of each Service, as kubectl lists them
    #[command(visible_alias = "ep")]
    Endpoints(NamespacedArgs),
    /// What happened to Services and to this node, the last at the end
    #[command(visible_alias = "ev")]
    Events(NamespacedArgs),
    /// Backends: state, flows, packets, share
    #[command(visible_alias = "be")]
    Backends(NamespacedArgs),
    /// Live flows
    #[command(visible_alias = "fl")]
    Flows(FlowArgs),
    /// Interfaces: mode, queues and their workers, packets
    #[command(visible_alias = "if")]
    Interfaces(Output),
    /// Workers: CPU, busy share, flows, frames
    #[command(visible_alias = "wk")]
    Workers(Output),
    /// What was not forwarded and why, and the sum of all packets
    #[command(visible_alias = "dr")]
    Drops(Output),
    /// Next hops of the backends
    Neighbors(Output),
}

#[derive(Debug, Args)]
struct NamespacedArgs {
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct FlowArgs {
    /// Flows to list at most, up to 100000
    #[arg(long, default_value_t = 1_000)]
    limit: usize,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    output: Output,
}

/// Which namespaces.
#[derive(Debug, Args)]
struct Scope {
    /// Things of this namespace alone
    #[arg(short, long, value_name = "NS", env = "TIDEGATE_NAMESPACE")]
    namespace: Option<String>,
    /// Things of all namespaces, whatever TIDEGATE_NAMESPACE says; Services in kubectl's form
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

impl Scope {
    /// Whether one namespace alone is asked for.
    fn is_one(&self) -> bool {
        self.namespace.is_some() && !self.all_namespaces
    }

    /// kubectl's words.
    fn nothing_found(&self) -> String {
        match self.namespace.as_deref().filter(|_| self.is_one()) {
            Some(namespace) => format!("No resources found in {namespace} namespace."),
            None => "No resources found".to_owned(),
        }
    }

    fn narrow<T: Namespaced>(&self, list: &mut List<T>) {
        let Some(namespace) = self.namespace.as_deref().filter(|_| !self.all_namespaces) else {
            return;
        };
        list.items.retain(|item| item.namespace() == namespace);
    }
}

/// kubectl's `List`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KubernetesList<T> {
    api_version: &'static str,
    items: Vec<T>,
    kind: &'static str,
}

impl<T> KubernetesList<T> {
    fn new(list: List<Shown<T>>) -> Self {
        let items = list.items.into_iter().map(|shown| shown.object).collect();
        Self { api_version: "v1", items, kind: "List" }
    }
}

/// Asks for a list and prints it.
///
/// # Errors
/// The daemon is not reachable.
pub async fn run(client: &Client, args: GetArgs, quiet: bool) -> Result<(), Fault> {
    let printer = Printer { client, quiet };
    match args.list {
        ListCommand::Services(NamespacedArgs { scope, output }) if scope.all_namespaces => {
            printer.objects::<core::Service>("services", &scope, &output).await
        }
        ListCommand::Endpoints(NamespacedArgs { scope, output }) => {
            printer.objects::<core::Endpoints>("endpoints", &scope, &output).await
        }
        ListCommand::Events(NamespacedArgs { scope, output }) => {
            printer.scoped::<EventReport>("/api/v1/events", &scope, &output).await
        }
        ListCommand::Services(NamespacedArgs { scope, output }) => {
            printer.scoped::<ServiceReport>("/api/v1/services", &scope, &output).await
        }
        ListCommand::Backends(NamespacedArgs { scope, output }) => {
            printer.scoped::<BackendReport>("/api/v1/backends", &scope, &output).await
        }
        ListCommand::Flows(FlowArgs { limit, scope, output }) => {
            let path = format!("/api/v1/flows?limit={limit}");
            printer.scoped::<FlowReport>(&path, &scope, &output).await
        }
        ListCommand::Interfaces(output) => {
            printer.list::<InterfaceReport>("/api/v1/interfaces", &output).await
        }
        ListCommand::Workers(output) => {
            printer.list::<WorkerReport>("/api/v1/workers", &output).await
        }
        ListCommand::Neighbors(output) => {
            printer.list::<NeighborReport>("/api/v1/neighbors", &output).await
        }
        ListCommand::Drops(output) => printer.drops(&output).await,
    }
}

struct Printer<'a> {
    client: &'a Client,
    quiet: bool,
}

impl Printer<'_> {
    async fn scoped<T>(&self, path: &str, scope: &Scope, output: &Output) -> Result<(), Fault>
    where
        T: Rows + Namespaced + Serialize + DeserializeOwned,
    {
        let mut list: List<T> = self.client.get(path).await?;
        scope.narrow(&mut list);
        self.print(&list, output)
    }

    /// A list in Kubernetes' own form. As with kubectl, the namespace is a column only where there
    /// may be several.
    async fn objects<T>(&self, plural: &str, scope: &Scope, output: &Output) -> Result<(), Fault>
    where
        T: Serialize + DeserializeOwned,
        Shown<T>: Rows + Namespaced,
    {
        let list: List<T> = self.client.get(&format!("/api/v1/kubernetes/{plural}")).await?;
        let (now, is_wide) = (SystemTime::now(), output.output == Format::Wide);
        let items = list.items.into_iter().map(|object| Shown { object, now, is_wide });
        let mut list = List { items: items.collect() };
        scope.narrow(&mut list);
        let heads = !output.no_headers;
        let first = usize::from(scope.is_one());
        let text = match output.output {
            Format::Table | Format::Wide if list.items.is_empty() => {
                self.say(&scope.nothing_found());
                return Ok(());
            }
            Format::Table => render_from(first, &list.items, false, heads),
            Format::Wide => render_from(first, &list.items, true, heads),
            Format::Json => to_json(&KubernetesList::new(list))?,
            Format::Yaml => to_yaml(&KubernetesList::new(list))?,
            Format::Name => names(&list.items),
        };
        print(&text)
    }

    async fn list<T>(&self, path: &str, output: &Output) -> Result<(), Fault>
    where
        T: Rows + Serialize + DeserializeOwned,
    {
        self.print(&self.client.get::<List<T>>(path).await?, output)
    }

    fn print<T: Rows + Serialize>(&self, list: &List<T>, output: &Output) -> Result<(), Fault> {
        let is_for_people = matches!(output.output, Format::Table | Format::Wide);
        if list.items.is_empty() && is_for_people {
            self.say(&format!("No {} found.", T::PLURAL));
            return Ok(());
        }
        print(&text(list, output)?)
    }

    async fn drops(&self, output: &Output) -> Result<(), Fault> {
        let report: DropsReport = self.client.get("/api/v1/drops").await?;
        let text = match output.output {
            Format::Table => drops::screen(&report, !output.no_headers, false),
            Format::Wide => drops::screen(&report, !output.no_headers, true),
            Format::Json => to_json(&report)?,
            Format::Yaml => to_yaml(&report)?,
            Format::Name => drops::names(&report),
        };
        print(&text)
    }

    /// A remark for people, beside the data.
    fn say(&self, text: &str) {
        if !self.quiet {
            // Nobody reads a closed stderr.
            writeln!(io::stderr(), "{text}").ok();
        }
    }
}

fn text<T: Rows + Serialize>(list: &List<T>, output: &Output) -> Result<String, Fault> {
    Ok(match output.output {
        Format::Table => render(&list.items, false, !output.no_headers),
        Format::Wide => render(&list.items, true, !output.no_headers),
        Format::Json => to_json(list)?,
        Format::Yaml => to_yaml(list)?,
        Format::Name => names(&list.items),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::fixtures;

    fn scope(namespace: Option<&str>, all_namespaces: bool) -> Scope {
        Scope { namespace: namespace.map(str::to_owned), all_namespaces }
    }

    #[test]
    fn a_namespace_narrows_the_list_unless_all_are_asked_for() {
        let list = List { items: vec![fixtures::service("shop"), fixtures::service("bank")] };
        for (scope, expected) in [
            (scope(Some("bank"), false), 1),
            (scope(Some("bank"), true), 2),
            (scope(None, false), 2),
        ] {
            let mut narrowed = list.clone();
            scope.narrow(&mut narrowed);
            assert_eq!(narrowed.items.len(), expected);
        }
    }

    #[test]
    fn every_form_reads_back_or_lists_names() {
        let list = List { items: vec![fixtures::service("shop")] };
        let of = |output| text(&list, &Output { output, no_headers: true }).unwrap();
        assert_eq!(serde_json::from_str::<List<ServiceReport>>(&of(Format::Json)).unwrap(), list);
        assert_eq!(serde_saphyr::from_str::<List<ServiceReport>>(&of(Format::Yaml)).unwrap(), list);
        assert_eq!(of(Format::Name), "service/shop/web:http\n");
        assert!(of(Format::Wide).len() > of(Format::Table).len());
    }
}
