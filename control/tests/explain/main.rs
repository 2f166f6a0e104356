//! `tidegate explain` as scripts see it: manifests and packets in, answers and exit codes out.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod states;

use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

const STATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/explain.yaml");

/// A client outside the cluster.
const CLIENT: &str = "192.0.2.7:41522";

fn explain(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for name in ["SOCKET", "CONFIG", "OUTPUT", "VERBOSE", "QUIET"] {
        command.env_remove(format!("TIDEGATE_{name}"));
    }
    command.arg("explain").args(arguments.split_whitespace());
    command
}

/// Asks the state above as the node `gw`.
fn ask(arguments: &str) -> Output {
    explain(&format!("--state {STATE} --node gw {arguments}")).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The answer on one line: verdict, reason, service, candidates and how, and the exit code.
fn answer(question: &str) -> (String, Option<i32>) {
    let output = ask(&format!("-o json {question}"));
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let answer: Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stderr}"));
    let word = |key: &str| answer[key].as_str().unwrap_or("-").to_owned();
    let candidates = answer["candidates"].as_array().unwrap();
    let list: Vec<_> = candidates.iter().map(|c| c.as_str().unwrap()).collect();
    let is_one_of_them = candidates.contains(&answer["backend"]);
    assert_eq!(is_one_of_them, word("verdict") == "forward", "{stdout}");
    let how = if answer["masquerade"] == json!(true) { " snat" } else { "" };
    let start = [word("verdict"), word("reason"), word("service")].join(" ");
    (format!("{start} [{}]{how}", list.join(" ")), output.status.code())
}

const WEB: &str = "forward FORWARD shop/web:http \
                   [10.244.0.5:8080 10.244.1.10:8080 10.244.1.9:8080] snat";

#[test]
fn each_kind_of_packet_gets_its_answer_and_exit_code() {
    let nothing = "pass NO_SERVICE - []";
    for (question, expected, code) in [
        ("tcp 192.0.2.7:1 10.0.0.1:30080", WEB, 0),
        ("TCP 192.0.2.7:1 203.0.113.9:80", WEB, 0),
        ("tcp 192.0.2.7:1 198.51.100.77:80", WEB, 0),
        ("udp 192.0.2.7:1 10.0.0.1:30053", "forward FORWARD default/here [10.244.0.5:5353]", 0),
        (
            "tcp 192.0.2.7:1 10.0.0.1:30085",
            "forward FORWARD default/last [10.244.1.9:8080] snat",
            0,
        ),
        ("tcp 192.0.2.7:1 10.0.0.1:30082", "drop NO_LOCAL_ENDPOINTS default/away []", 10),
        ("tcp 192.0.2.7:1 10.0.0.1:30083", "reject NO_ENDPOINTS default/nobody []", 10),
        ("tcp 192.0.2.7:1 10.0.0.1:30084", "pass LOCAL_BACKEND default/host []", 11),
        ("tcp 10.244.0.9:1 10.0.0.1:30082", "forward FORWARD default/away [10.244.1.9:8080]", 0),
        (
            "udp 10.244.0.9:1 10.0.0.1:30053",
            "forward FORWARD default/here [10.244.0.5:5353 10.244.1.9:5353]",
            0,
        ),
        ("udp 10.244.1.8:1 10.0.0.1:30053", "forward FORWARD default/here [10.244.0.5:5353]", 0),
        (
            "tcp 192.0.2.7:1 203.0.113.10:443",
            "forward FORWARD default/fenced:https [10.244.1.9:8443] snat",
            0,
        ),
        (
            "tcp 198.51.100.9:1 203.0.113.10:443",
            "drop DENIED_BY_LB_SRC_RANGE_CHECK default/fenced:https []",
            10,
        ),
        (
            "tcp 198.51.100.9:1 10.0.0.1:30443",
            "forward FORWARD default/fenced:https [10.244.1.9:8443] snat",
            0,
        ),
        ("tcp 127.0.0.1:1 10.0.0.1:30080", nothing, 11),
        ("tcp 10.0.0.1:1 10.0.0.1:30080", nothing, 11),
        ("udp 192.0.2.7:1 10.0.0.1:30080", nothing, 11),
        ("tcp 192.0.2.7:1 10.0.0.1:80", nothing, 11),
        ("tcp 192.0.2.7:1 198.51.100.1:30080", "pass NOT_NODEPORT_ADDRESS - []", 11),
        ("tcp 192.0.2.7:1 10.96.0.1:80", nothing, 11),
        ("sctp 192.0.2.7:1 10.0.0.1:30080", nothing, 11),
        ("tcp [2001:db8::7]:1 [2001:db8::1]:30080", nothing, 11),
    ] {
        assert_eq!(answer(question), (expected.to_owned(), Some(code)), "{question}");
    }
}

const WEB_V6: &str = "forward FORWARD shop/web:http \
                      [[fd00:244:1::9]:8080 [fd00:244::5]:8080] snat";

#[test]
fn ipv6_packets_get_their_own_answers() {
    let nothing = "pass NO_SERVICE - []";
    let here = "forward FORWARD default/here [[fd00:244::5]:5353]";
    for (question, expected, code) in [
        ("tcp [2001:db8:7::7]:1 [2001:db8:1::1]:30080", WEB_V6, 0),
        ("tcp [2001:db8:7::7]:1 [2001:DB8:1:0::1]:30080", WEB_V6, 0),
        ("tcp [2001:db8:7::7]:1 [2001:db8:9::9]:80", WEB_V6, 0),
        ("tcp [2001:db8:7::7]:1 [2001:db8:9::77]:80", WEB_V6, 0),
        ("udp [2001:db8:7::7]:1 [2001:db8:1::1]:30053", here, 0),
        (
            "udp [fd00:244::9]:1 [2001:db8:1::1]:30053",
            "forward FORWARD default/here [[fd00:244:1::9]:5353 [fd00:244::5]:5353]",
            0,
        ),
        ("udp [fd00:244:1::8]:1 [2001:db8:1::1]:30053", here, 0),
        (
            "tcp [2001:db8:7::7]:1 [2001:db8:1::1]:30082",
            "drop NO_LOCAL_ENDPOINTS default/away []",
            10,
        ),
        (
            "tcp [2001:db8:7::7]:1 [2001:db8:1::1]:30083",
            "reject NO_ENDPOINTS default/nobody []",
            10,
        ),
        ("tcp [2001:db8:7::7]:1 [2001:db8:1::1]:30084", "pass LOCAL_BACKEND default/host []", 11),
        // Of one family's fronts the other family's pods are no backends.
        (
            "tcp [2001:db8:7::7]:1 [2001:db8:9::10]:443",
            "reject NO_ENDPOINTS default/fenced:https []",
            10,
        ),
        (
            "tcp [2001:db8:8::7]:1 [2001:db8:9::10]:443",
            "drop DENIED_BY_LB_SRC_RANGE_CHECK default/fenced:https []",
            10,
        ),
        // A family without a cluster IP has no front.
        ("tcp [2001:db8:7::7]:1 [2001:db8:1::1]:30085", nothing, 11),
        // The first address of the family alone is primary.
        ("tcp [2001:db8:7::7]:1 [2001:db8:1::2]:30080", "pass NOT_NODEPORT_ADDRESS - []", 11),
        ("tcp [2001:db8:1::1]:1 [2001:db8:1::1]:30080", nothing, 11),
        ("tcp [::1]:1 [2001:db8:1::1]:30080", nothing, 11),
        ("sctp [2001:db8:7::7]:1 [2001:db8:1::1]:30080", nothing, 11),
        ("tcp [::ffff:192.0.2.7]:1 [::ffff:10.0.0.1]:30080", WEB, 0),
    ] {
        assert_eq!(answer(question), (expected.to_owned(), Some(code)), "{question}");
    }
}

#[test]
fn d7_a_cluster_ip_is_for_the_nodes_pods_where_it_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    let written = "apiVersion: tidegate.dev/v1alpha1\nkind: LoadBalancerConfiguration\n\
                   clusterIP: serve\ninterfaces: [{name: eth0}, {name: veth*, role: backend}]\n";
    std::fs::write(&config, written).unwrap();
    let served = |question: &str| answer(&format!("--config {} {question}", config.display()));
    let nothing = ("pass NO_SERVICE - []".to_owned(), Some(11));
    let pods = "forward FORWARD shop/web:http [10.244.0.5:8080 10.244.1.10:8080 10.244.1.9:8080]";
    let from_pod = "tcp 10.244.0.9:1 10.96.0.1:80";
    assert_eq!(served(from_pod), (pods.to_owned(), Some(0)));
    let pods = "forward FORWARD shop/web:http [[fd00:244:1::9]:8080 [fd00:244::5]:8080]";
    assert_eq!(served("tcp [fd00:244::9]:1 [fd00:96::1]:80"), (pods.to_owned(), Some(0)));
    for question in ["tcp 192.0.2.7:1 10.96.0.1:80", "tcp 10.244.0.9:1 10.96.0.1:81"] {
        assert_eq!(served(question), nothing, "{question}");
    }
    assert_eq!(answer(from_pod), nothing, "the kernel's by default");
    let asked = format!("--config {} tcp 192.0.2.7:1 10.96.0.1:80", config.display());
    let screen = text(&ask(&asked).stdout);
    let why = "10.96.0.1:80/TCP is a cluster IP: served for pods of this node, which 192.0.2.7 is";
    assert!(screen.contains(why), "{screen}");
    let screen = text(&ask(&format!("--config {} {from_pod}", config.display())).stdout);
    assert!(screen.contains("is a cluster IP here"), "{screen}");
    assert!(screen.contains("internalTrafficPolicy Cluster"), "{screen}");
}

#[test]
fn the_screen_of_an_ipv6_packet_has_brackets_and_marks_what_files_cannot_tell() {
    let screen = text(&ask("tcp [2001:db8:7::7]:41522 [2001:db8:1::1]:30080").stdout);
    let steps = [
        "FORWARD   to [fd00:244::5]:8080",
        " 1   xdp filter     match                [2001:db8:1::1]:30080/TCP is a node port here",
        " 2   parse          ok                   IPv6 TCP SYN",
        " 7   rewrite        snat                 src 2001:db8:1::1 (assumed: files tell no \
         routes), a free port of",
        "not [fd00:244:1::9]:8080   ready; owns other entries of the table",
    ];
    for step in steps {
        assert!(screen.contains(step), "{step} is not in\n{screen}");
    }
    let question = "tcp [2001:db8:7::7]:1 [2001:db8:9::9]:80";
    let output = explain(&format!("--state {STATE} --node x {question}")).output().unwrap();
    let screen = text(&output.stdout);
    assert!(screen.contains("an address of the node that no file tells"), "{screen}");
}

#[test]
fn the_json_form_is_one_object_of_six_fields() {
    let output = ask("-o json udp [fd00:244:1::8]:1 [2001:db8:1::1]:30053");
    let expected = "{\"verdict\":\"forward\",\"reason\":\"FORWARD\",\
                    \"service\":\"default/here\",\"candidates\":[\"[fd00:244::5]:5353\"],\
                    \"backend\":\"[fd00:244::5]:5353\",\"masquerade\":false}\n";
    assert_eq!(text(&output.stdout), expected);
    let output = ask(&format!("-o json tcp {CLIENT} 10.0.0.1:30082"));
    let expected = "{\"verdict\":\"drop\",\"reason\":\"NO_LOCAL_ENDPOINTS\",\
                    \"service\":\"default/away\",\"candidates\":[],\"backend\":null,\
                    \"masquerade\":false}\n";
    assert_eq!(text(&output.stdout), expected);
}

#[test]
fn flows_are_answered_in_order_and_a_bad_line_in_its_place() {
    let good = r#"{"proto":"tcp","src":"192.0.2.7:1","dst":"10.0.0.1:30083"}"#;
    let other = r#"{"proto":"UDP","src":"192.0.2.7:1","dst":"10.0.0.1:30053"}"#;
    let asked = |lines: &[&str]| {
        let mut command = explain(&format!("--state {STATE} --node gw --flows -"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let answers = text(&output.stdout);
        let answers = answers.lines().map(|line| serde_json::from_str(line).unwrap());
        (answers.collect::<Vec<Value>>(), output.status.code())
    };
    // More rejects than a worker answers in a second: each is the first packet of its flow.
    let (answers, code) = asked(&vec![good; 1200]);
    assert!(answers.iter().all(|a| a["verdict"] == "reject") && answers.len() == 1200);
    assert_eq!(code, Some(0));
    let v6 = r#"{"proto":"tcp","src":"[2001:db8:7::7]:1","dst":"[2001:db8:1::1]:30082"}"#;
    let (answers, code) = asked(&[other, "{\"proto\":\"icmp\"}", good, v6, ""]);
    let verdicts: Vec<_> = answers.iter().map(|answer| answer["verdict"].as_str()).collect();
    assert_eq!(verdicts, [Some("forward"), None, Some("reject"), Some("drop")]);
    assert!(answers[1]["error"].is_string(), "{}", answers[1]);
    assert_eq!(code, Some(1));
}

#[test]
fn the_same_packet_gets_the_same_backend_and_others_get_others() {
    let backend = |port: u16| {
        let output = ask(&format!("-o json tcp 192.0.2.7:{port} 10.0.0.1:30080"));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["backend"].clone()
    };
    assert_eq!(backend(1), backend(1));
    assert!((2..40).any(|port| backend(port) != backend(1)));
}

#[test]
fn a_random_choice_is_null_and_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.yaml");
    let written = "apiVersion: tidegate.dev/v1alpha1\nkind: LoadBalancerConfiguration\n\
                   loadBalancer: {algorithm: random}\nnodePortAddresses: [all]\n";
    std::fs::write(&config, written).unwrap();
    // nodePortAddresses lets the other address serve too.
    let question = format!("--config {} tcp {CLIENT} 198.51.100.1:30080", config.display());
    let output = ask(&format!("-o json {question}"));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["backend"], &answer["masquerade"]), (&Value::Null, &json!(true)));
    assert_eq!(answer["candidates"].as_array().map(Vec::len), Some(3));
    let screen = text(&ask(&question).stdout);
    assert!(screen.starts_with("FORWARD   to one of 3 backends at random\n"), "{screen}");
    assert!(screen.contains("10.244.0.5:8080, 10.244.1.9:8080, 10.244.1.10:8080"), "{screen}");
}

#[test]
fn node_addresses_may_be_given_where_no_node_object_has_them() {
    let question = format!("-o json tcp {CLIENT} 10.9.9.9:30080");
    let v6 = "-o json tcp [2001:db8:7::7]:1 [2001:db8:5::5]:30080";
    for (address, question) in [("10.9.9.9", question.as_str()), ("2001:db8:5::5", v6)] {
        let options = format!("--state {STATE} --node x --node-ip {address}");
        let output = explain(&format!("{options} {question}")).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{address}");
    }
    let output = explain(&format!("--state {STATE} --node x {question}")).output().unwrap();
    assert_eq!(output.status.code(), Some(11));
    assert!(text(&output.stderr).contains("no node address"), "{}", text(&output.stderr));
}

#[test]
fn a_node_without_addresses_serves_its_vips() {
    let question = format!("-o json tcp {CLIENT} 203.0.113.9:80");
    let output = explain(&format!("--state {STATE} --node x {question}")).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["verdict"], &answer["masquerade"]), (&json!("forward"), &json!(true)));
}

#[test]
fn of_many_endpoints_the_first_are_listed_and_the_others_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("many.yaml");
    let endpoints: Vec<_> = (0..100).map(|n| format!("- {{addresses: [10.1.0.{n}]}}")).collect();
    let endpoints = endpoints.join("\n");
    let state = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: many}}\nspec: {{type: NodePort, ports: \
         [{{port: 80, nodePort: 30086}}]}}\n---\napiVersion: discovery.k8s.io/v1\nkind: \
         EndpointSlice\nmetadata: {{name: m, labels: {{kubernetes.io/service-name: many}}}}\n\
         addressType: IPv4\nports: [{{name: '', port: 80}}]\nendpoints:\n{endpoints}"
    );
    std::fs::write(&file, state).unwrap();
    let question = format!("tcp {CLIENT} 10.0.0.1:30086");
    let options = format!("--state {STATE} --state {} --node gw", file.display());
    let output = explain(&format!("{options} {question}")).output().unwrap();
    let screen = text(&output.stdout);
    assert!(screen.ends_with("\nand 49 more\n"), "{screen}");
}

#[test]
fn the_screen_numbers_the_path_and_says_why_not_the_others() {
    let screen = text(&ask(&format!("udp {CLIENT} 10.0.0.1:30053")).stdout);
    let expected = "\
FORWARD   to 10.244.0.5:5353

 1   xdp filter     match             10.0.0.1:30053/UDP is a node port here
 2   parse          ok                IPv4 UDP
 3   service        default/here      externalTrafficPolicy Local, affinity None
 4   source range   pass              not asked at this front
 5   flow table     miss              new flow
 6   maglev         10.244.0.5:5353   entry 659 of 1021, by the five-tuple; it owns 1021
 7   rewrite        dnat              src 192.0.2.7:41522 stays; dst 10.244.0.5:5353
 8   neighbor       assumed           from files every backend counts as reachable

not 10.244.1.9:5353   on another node, and the policy is Local
";
    assert_eq!(screen, expected);
    let screen = text(&ask(&format!("tcp {CLIENT} 10.0.0.1:30082")).stdout);
    assert!(screen.starts_with("DROP NO_LOCAL_ENDPOINTS\n"), "{screen}");
    assert!(screen.contains(" 5   service        drop           NO_LOCAL_ENDPOINTS"), "{screen}");
    assert!(screen.contains("\nnext: externalTrafficPolicy Local: send clients"), "{screen}");
    let screen = text(&ask(&format!("tcp {CLIENT} 198.51.100.1:30080")).stdout);
    assert!(screen.contains("30080 is the node port of shop/web, but 198.51.100.1"), "{screen}");
}

#[test]
fn wrong_words_are_2_and_wrong_files_1() {
    for words in ["icmp 1.1.1.1:1 2.2.2.2:2", "tcp 1.1.1.1 2.2.2.2:2", "tcp 1.1.1.1:1 [::1]:2"] {
        assert_eq!(ask(words).status.code(), Some(2), "{words}");
    }
    assert_eq!(ask("tcp 1.1.1.1:1").status.code(), Some(2));
    assert_eq!(ask("").status.code(), Some(2));
    let missing = format!("--state /nonexistent --node gw tcp {CLIENT} 10.0.0.1:30080");
    assert_eq!(explain(&missing).output().unwrap().status.code(), Some(1));
    let no_daemon = format!("--socket /nonexistent/admin.sock tcp {CLIENT} 10.0.0.1:30080");
    assert_eq!(explain(&no_daemon).output().unwrap().status.code(), Some(69));
}
