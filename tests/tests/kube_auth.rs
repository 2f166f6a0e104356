//! Who may ask the API server: tokens, certificates, and both of them changing under way.

use anyhow::{Result, ensure};
use std::path::Path;
use std::process::{Command, Stdio};
use tidegate_control::config::ClientConnection;
use tidegate_control::source::kubernetes::connect;
use tidegate_tests::api_server::{ApiServer, Door, Interruption, Verb, write_whole};
use tidegate_tests::objects::{node, service};
use tidegate_tests::setting::wait_until;
use tidegate_tests::watching::{NODE, TOLD_MAX, Watching};

fn server(door: Door) -> Result<ApiServer> {
    let server = ApiServer::start(door)?;
    server.apply(service("web", 30080))?;
    server.apply(node(NODE, &["192.0.2.1"]))?;
    Ok(server)
}

#[tokio::test]
async fn a_token_that_is_rotated_is_read_again() -> Result<()> {
    let server = server(Door::Tls)?;
    server.set_tokens(Some(&["first"]));
    let token = server.certificates().folder().join("token");
    write_whole(&token, "first")?;
    let user = format!("{{tokenFile: {}}}", token.display());
    let mut watching = Watching::start(&server.kubeconfig(&user)?)?;
    watching.wait_until("the first state", |w| w.wholes == 1).await?;
    // The old one runs out before the new one is there, as where the kubelet is late.
    server.set_tokens(Some(&["second"]));
    server.interrupt(Interruption::Cut);
    let is_refused = |w: &Watching| w.refusals.iter().any(|text| text.contains("(401)"));
    watching.wait_until("the refusal", is_refused).await?;
    write_whole(&token, "second")?;
    server.apply(service("new", 30081))?;
    watching.wait_until("the change", |w| w.services() == ["new", "web"]).await?;
    watching.wait_until("well again", |w| w.notes.is_well).await?;
    assert_eq!(watching.wholes, 1, "the watch is resumed, not begun anew");
    Ok(())
}

#[tokio::test]
async fn a_client_certificate_lets_in_and_a_renewed_one_is_read() -> Result<()> {
    let mut server = server(Door::TlsWithCertificate)?;
    let folder = server.certificates().folder().to_owned();
    let (certificate, key) = (folder.join("client.pem"), folder.join("client.key"));
    let user =
        format!("{{client-certificate: {}, client-key: {}}}", certificate.display(), key.display());
    // Of an authority that the server does not know.
    let other = ApiServer::start(Door::Tls)?;
    let write = |(certificate_text, key_text): (String, String)| {
        write_whole(&certificate, &certificate_text).and_then(|()| write_whole(&key, &key_text))
    };
    write(other.certificates().client("stranger")?)?;
    let mut watching = Watching::start(&server.kubeconfig(&user)?)?;
    watching.wait_until("the refusal", |w| !w.refusals.is_empty()).await?;
    assert_eq!(watching.wholes, 0);
    write(server.certificates().client("gateway")?)?;
    watching.wait_until("the first state", |w| w.wholes == 1).await?;
    assert_eq!(watching.services(), ["web"]);
    // A connection of its own for the next requests, with another certificate still.
    write(server.certificates().client("gateway-2")?)?;
    server.stop();
    server.apply(service("new", 30081))?;
    server.resume()?;
    watching.wait_until("the change", |w| w.services() == ["new", "web"]).await
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_believed() -> Result<()> {
    let (server, other) = (server(Door::Tls)?, server(Door::Tls)?);
    let kubeconfig = server.kubeconfig("{}")?;
    let text = std::fs::read_to_string(&kubeconfig)?.replace(
        &server.certificates().authority().display().to_string(),
        &other.certificates().authority().display().to_string(),
    );
    write_whole(&kubeconfig, &text)?;
    let mut watching = Watching::start(&kubeconfig)?;
    watching.wait_until("the refusal", |w| !w.refusals.is_empty()).await?;
    assert!(watching.refusals[0].contains("certificate"), "{:?}", watching.refusals);
    assert_eq!((watching.wholes, server.requests()), (0, vec![]));
    Ok(())
}

#[tokio::test]
async fn requests_keep_to_the_rate() -> Result<()> {
    let server = server(Door::Open)?;
    let kubeconfig = server.kubeconfig("{}")?.display().to_string();
    let connection = ClientConnection { kubeconfig, qps: 20, burst: 2 };
    let client = connect(&connection).await?;
    let begin = std::time::Instant::now();
    for _ in 0..8 {
        client.apiserver_version().await?;
    }
    // Six of them wait a twentieth of a second each: a lower bound, whatever the machine does.
    assert!(begin.elapsed().as_millis() >= 300, "{:?}", begin.elapsed());
    assert!(server.requests().iter().all(|request| request.verb != Verb::List));
    Ok(())
}

/// Where the kubelet puts a pod's credentials.
const POD_FOLDER: &str = "/run/secrets/kubernetes.io/serviceaccount";

/// A file there, once the first state was seen.
const SEEN: &str = "seen";

/// The daemon's side of the next test: run by it as a process of its own, as in a pod.
#[tokio::test]
#[ignore = "is run by in_a_pod_the_service_accounts_files_are_used_and_a_new_token_is_read"]
async fn watches_from_within_a_pod() -> Result<()> {
    let mut watching = Watching::start(Path::new(""))?;
    watching.wait_until("the first state", |w| w.services() == ["web"]).await?;
    std::fs::write(Path::new(POD_FOLDER).join(SEEN), "")?;
    watching.wait_until("the change", |w| w.services() == ["new", "web"]).await
}

#[test]
fn in_a_pod_the_service_accounts_files_are_used_and_a_new_token_is_read() -> Result<()> {
    let server = server(Door::Tls)?;
    server.set_tokens(Some(&["first"]));
    let pod = tempfile::tempdir()?;
    let write = |name: &str, text: &str| write_whole(&pod.path().join(name), text);
    write("ca.crt", &std::fs::read_to_string(server.certificates().authority())?)?;
    write("namespace", "tidegate")?;
    write("token", "first")?;
    // In mounts of its own, so that the machine's /run stays as it is. The folder is bound before
    // /run is covered, since it may be below.
    let script = format!(
        "set -e; exec 3<{}; mount -t tmpfs none /run; mkdir -p {POD_FOLDER}; \
         mount --bind /proc/self/fd/3 {POD_FOLDER}; exec \"$@\"",
        pod.path().display()
    );
    let mut inside = Command::new("unshare");
    inside.args(["--mount", "sh", "-c", &script, "sh"]).arg(std::env::current_exe()?);
    inside.args(["--exact", "watches_from_within_a_pod", "--ignored", "--nocapture"]);
    inside.env("KUBERNETES_SERVICE_HOST", server.address().ip().to_string());
    inside.env("KUBERNETES_SERVICE_PORT", server.address().port().to_string());
    let inside = inside.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // Not before: what it had not listed yet would be listed with the change.
    wait_until("the first state", TOLD_MAX, || pod.path().join(SEEN).exists())?;
    server.set_tokens(Some(&["second"]));
    write("token", "second")?;
    server.interrupt(Interruption::Cut);
    server.apply(service("new", 30081))?;
    let output = inside.wait_with_output()?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    ensure!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
    Ok(())
}
