//! Small states that each turn on one row.

use super::{CLIENT, explain};
use serde_json::{Value, json};
use std::io::Write as _;

/// What the state in `text` answers.
fn answer_from(text: &str, arguments: &str, question: &str) -> String {
    let mut file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let state = file.path().display();
    let question = format!("--state {state} --node n1 {arguments} -o json {question}");
    let output = explain(&question).output().unwrap();
    let stderr = super::text(&output.stderr);
    let answer: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    let [verdict, reason] = ["verdict", "reason"].map(|key| answer[key].as_str().unwrap());
    format!("{verdict} {reason} {}", answer["candidates"])
}

const NODE: &str = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {addresses: \
                    [{type: InternalIP, address: 10.0.0.11}]}\n---\n";
const SLICE: &str = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: \
                     s, namespace: d, labels: {kubernetes.io/service-name: s LABEL}}\n\
                     addressType: IPv4\nports: [{name: '', port: 8080}]\n\
                     endpoints: [{addresses: [10.9.0.1]}]\n";

fn balancer(spec: &str, port: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: d}}\nspec: {{type: \
         LoadBalancer, {spec} ports: [{{port: 80{port}}}]}}\nstatus: {{loadBalancer: {{ingress: \
         [{{ip: 198.18.0.1}}]}}}}\n{}",
        SLICE.replace(" LABEL", "")
    )
}

#[test]
fn e15_a_node_port_is_kept_without_allocation_and_none_made_up_for_what_was_applied() {
    let kept = "clusterIP: 10.96.0.9, allocateLoadBalancerNodePorts: false,";
    let kept = NODE.to_owned() + &balancer(kept, ", nodePort: 30080");
    let there = r#"forward FORWARD ["10.9.0.1:8080"]"#;
    for front in ["198.18.0.1:80", "10.0.0.11:30080"] {
        assert_eq!(answer_from(&kept, "", &format!("tcp {CLIENT} {front}")), there, "{front}");
    }
    let ports = |spec| {
        let state = NODE.to_owned() + &balancer(spec, "");
        let flow =
            |port| json!({"proto": "tcp", "src": CLIENT, "dst": format!("10.0.0.11:{port}")});
        let flows: Vec<_> = (30_000..32_768).map(|port| flow(port).to_string()).collect();
        forwarded(&state, &flows.join("\n"))
    };
    assert_eq!((ports("clusterIP: 10.96.0.9,"), ports("")), (0, 1));
}

/// How many of the flows are forwarded.
fn forwarded(state: &str, flows: &str) -> usize {
    let mut file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    file.write_all(state.as_bytes()).unwrap();
    let mut questions = tempfile::NamedTempFile::new().unwrap();
    questions.write_all(flows.as_bytes()).unwrap();
    let [state, flows] = [file.path(), questions.path()].map(std::path::Path::display);
    let output = explain(&format!("--state {state} --node n1 --flows {flows}")).output().unwrap();
    super::text(&output.stdout).lines().filter(|line| line.contains("FORWARD")).count()
}

#[test]
fn i3_i5_given_addresses_count_in_plain_form_and_loopback_is_never_primary() {
    let state = balancer("", ", nodePort: 30080");
    let there = r#"forward FORWARD ["10.9.0.1:8080"]"#;
    let given = "--node-ip 127.0.0.1 --node-ip 169.254.1.1 --node-ip ::ffff:10.0.0.11";
    let ask = |address| answer_from(&state, given, &format!("tcp {CLIENT} {address}:30080"));
    assert_eq!(ask("10.0.0.11"), there);
    assert_eq!(ask("127.0.0.1"), "pass NOT_NODEPORT_ADDRESS []");
    let v6_node = NODE.replace("10.0.0.11", "fd00::11") + &state;
    let question = format!("tcp {CLIENT} 10.0.0.12:30080");
    assert_eq!(answer_from(&v6_node, "--node-ip 10.0.0.12", &question), there);
}
