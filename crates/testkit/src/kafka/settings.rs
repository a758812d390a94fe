//! What a test's Kafka is told: ports and listeners, one partition and as many replicas as there are nodes for the topics
//! that Kafka keeps for itself, and to give leaders back their lead within seconds.

use std::{fs, path::Path};

use super::{Access, Installation, node::Node};
use crate::free_ports;

/// Any will do: nodes of different clusters never meet.
const CLUSTER: &str = "airutTestClusterAAAAAA";

/// The nodes that are to be.
pub(super) struct ClusterPlan {
    access: Access,
    nodes: Vec<Ports>,
}

struct Ports {
    client: u16,
    internal: u16,
    controller: u16,
    /// The listener that is advertised as the proxy's, where there is one.
    behind: u16,
}

impl ClusterPlan {
    pub(super) fn new(nodes: u32, access: Access) -> Self {
        let ports = free_ports(u16::try_from(4 * nodes).expect("so few nodes"));
        let ports = ports.chunks_exact(4);
        let nodes =
            ports.map(|ports| Ports { client: ports[0], internal: ports[1], controller: ports[2], behind: ports[3] });
        Self { access, nodes: nodes.collect() }
    }

    pub(super) fn bootstrap(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.client)).collect();
        addresses.join(",")
    }

    /// The port of the first node's listener behind the proxy.
    pub(super) fn behind(&self) -> u16 {
        self.nodes[0].behind
    }

    /// Writes the nodes' files. Only the first is formatted by Kafka itself, the others like it: that saves a Java each.
    pub(super) fn lay(&self, dir: &Path, installation: &Installation) -> Result<Vec<Node>, String> {
        let mut nodes = Vec::new();
        for number in 0..self.nodes.len() {
            let home = dir.join(format!("node-{number}"));
            fs::create_dir(&home).expect("the directory is ours");
            fs::write(home.join("server.properties"), self.properties(number, &home)).expect("the directory is ours");
            nodes.push(Node::new(home));
        }
        format(&nodes[0], installation)?;
        for (number, node) in nodes.iter().enumerate().skip(1) {
            format_like(&nodes[0], node, number);
        }
        Ok(nodes)
    }

    fn properties(&self, number: usize, home: &Path) -> String {
        let Ports { client, internal, controller, behind } = &self.nodes[number];
        let size = self.nodes.len();
        let voters = self.nodes.iter().enumerate().map(|(n, node)| format!("{}@127.0.0.1:{}", n + 1, node.controller));
        let voters = voters.collect::<Vec<_>>().join(",");
        let (protocol, access) = self.access();
        let (listener, advertised, of_protocol) = match self.access {
            Access::Open | Access::Tls { .. } => Default::default(),
            Access::Behind { proxy } => (
                format!(",BEHIND://127.0.0.1:{behind}"),
                format!(",BEHIND://127.0.0.1:{proxy}"),
                ",BEHIND:PLAINTEXT".to_owned(),
            ),
        };
        format!(
            "process.roles=broker,controller\n\
             node.id={id}\n\
             controller.quorum.voters={voters}\n\
             listeners=CLIENT://127.0.0.1:{client},INTERNAL://127.0.0.1:{internal},CONTROLLER://127.0.0.1:{controller}{listener}\n\
             advertised.listeners=CLIENT://127.0.0.1:{client},INTERNAL://127.0.0.1:{internal}{advertised}\n\
             listener.security.protocol.map=CLIENT:{protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT{of_protocol}\n\
             inter.broker.listener.name=INTERNAL\n\
             controller.listener.names=CONTROLLER\n\
             {access}\
             log.dirs={data}\n\
             log.index.size.max.bytes=1048576\n\
             num.network.threads=2\n\
             num.io.threads=4\n\
             auto.create.topics.enable=false\n\
             offsets.topic.num.partitions=1\n\
             offsets.topic.replication.factor={size}\n\
             transaction.state.log.num.partitions=1\n\
             transaction.state.log.replication.factor={size}\n\
             transaction.state.log.min.isr=1\n\
             share.coordinator.state.topic.replication.factor={size}\n\
             share.coordinator.state.topic.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\n\
             broker.heartbeat.interval.ms=500\n\
             leader.imbalance.check.interval.seconds=2\n",
            id = number + 1,
            data = home.join("data").display(),
        )
    }

    /// The protocol of clients, and what it needs besides.
    fn access(&self) -> (&str, String) {
        match &self.access {
            Access::Open | Access::Behind { .. } => ("PLAINTEXT", String::new()),
            Access::Tls { ca, certificate, key, may } => {
                let pem = |path: &Path| {
                    let text = fs::read_to_string(path).expect("the PKI's files are there");
                    text.trim().replace('\n', " \\\n")
                };
                let mut text = format!(
                    "ssl.client.auth=required\n\
                     ssl.keystore.type=PEM\n\
                     ssl.keystore.certificate.chain={}\n\
                     ssl.keystore.key={}\n\
                     ssl.truststore.type=PEM\n\
                     ssl.truststore.certificates={}\n",
                    pem(certificate),
                    pem(key),
                    pem(ca)
                );
                if !may.is_empty() {
                    // The nodes themselves come over the plain listeners, and are nobody.
                    let users = may.iter().map(|subject| format!(";User:{subject}")).collect::<String>();
                    text.push_str("authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n");
                    text.push_str(&format!("super.users=User:ANONYMOUS{users}\n"));
                }
                ("SSL", text)
            }
        }
    }
}

fn format(node: &Node, installation: &Installation) -> Result<(), String> {
    let mut command = installation.program("kafka.tools.StorageTool");
    command.args(["format", "-t", CLUSTER, "-c"]).arg(node.home().join("server.properties"));
    let output = command.output().expect("Java can be started");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn format_like(first: &Node, node: &Node, number: usize) {
    let (from, to) = (first.home().join("data"), node.home().join("data"));
    fs::create_dir(&to).expect("the directory is ours");
    fs::copy(from.join("bootstrap.checkpoint"), to.join("bootstrap.checkpoint")).expect("it was formatted");
    // 16 bytes in unpadded base64, different for each node.
    let directory = format!("airutTestNodeAAAAAAA{number:01}A");
    let text = format!("version=1\ncluster.id={CLUSTER}\nnode.id={}\ndirectory.id={directory}\n", number + 1);
    fs::write(to.join("meta.properties"), text).expect("the directory is ours");
}
