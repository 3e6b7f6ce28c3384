//! The engine's documents of services and tasks, as long as those of Engine 20.10.

use std::net::Ipv4Addr;

use crate::scripted::Id;

/// The fields that are the same in the specs of services and of tasks.
const CONTAINER: &str = r#""Image":"registry.example.com:5000/faas/resize:3@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","Env":["fprocess=convert - -resize 50% -","write_debug=true","exec_timeout=30s"],"Init":false,"Healthcheck":{"Test":["CMD","fwatchdog","--health"],"Interval":5000000000,"Timeout":3000000000},"DNSConfig":{},"Isolation":"default","Secrets":[{"File":{"Name":"key","UID":"0","GID":"0","Mode":292},"SecretID":"p0w7qv1x4z6c9b5n0t2m2k8y3","SecretName":"key"}]"#;
const TEMPLATE: &str = r#""Resources":{"Limits":{"NanoCPUs":500000000,"MemoryBytes":67108864},"Reservations":{}},"RestartPolicy":{"Condition":"any","Delay":5000000000,"MaxAttempts":0},"Placement":{"Constraints":["node.role == worker"],"Platforms":[{"Architecture":"amd64","OS":"linux"}]},"Networks":[{"Target":"t7id96pd1rpf12ksg1wrq66zo"}],"ForceUpdate":0"#;
const TIMES: &str =
    r#""CreatedAt":"2026-11-23T23:48:08.965818185Z","UpdatedAt":"2026-11-23T23:48:10.967391285Z""#;

/// The network that all services are on.
pub(crate) const NETWORKS: &str = r#"[{"Id":"t7id96pd1rpf12ksg1wrq66zo","Name":"functions","Created":"2026-11-23T23:48:08Z","Scope":"swarm","Driver":"overlay","Ingress":false}]"#;

/// A service with so many replicas, whose tasks listen on `port`.
pub(crate) fn service(id: Id, name: &str, replicas: usize, port: u16) -> String {
    let updates = r#"{"Parallelism":1,"Delay":5000000000,"FailureAction":"rollback","Monitor":5000000000,"MaxFailureRatio":0,"Order":"start-first"}"#;
    format!(
        r#"{{"ID":"{id}","Version":{{"Index":{index}}},{TIMES},"Spec":{{"Name":"{name}","Labels":{{"com.docker.stack.namespace":"images","com.openfaas.scale.max":"5","com.openfaas.scale.factor":"0","faas.port":"{port}","function":"true"}},"TaskTemplate":{{"ContainerSpec":{{{CONTAINER}}},{TEMPLATE},"Runtime":"container"}},"Mode":{{"Replicated":{{"Replicas":{replicas}}}}},"UpdateConfig":{updates},"RollbackConfig":{updates},"EndpointSpec":{{"Mode":"vip"}}}},"Endpoint":{{"Spec":{{"Mode":"vip"}},"VirtualIPs":[{{"NetworkID":"t7id96pd1rpf12ksg1wrq66zo","Addr":"10.0.1.2/16"}}]}}}}"#,
        index = id.number + 20,
    )
}

/// A task of the service, in this state, at this address.
pub(crate) fn task(id: Id, service: Id, state: &str, address: Ipv4Addr) -> String {
    format!(
        r#"{{"ID":"{id}","Version":{{"Index":{index}}},{TIMES},"Labels":{{}},"Spec":{{"ContainerSpec":{{{CONTAINER}}},{TEMPLATE}}},"ServiceID":"{service}","Slot":1,"NodeID":"ecfpumq3awyy2n6ymoub5casx","Status":{{"Timestamp":"2026-11-23T23:48:10.535204283Z","State":"{state}","Message":"started","ContainerStatus":{{"ContainerID":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","PID":4711,"ExitCode":0}},"PortStatus":{{}}}},"DesiredState":"running","NetworksAttachments":[{{"Network":{{"ID":"t7id96pd1rpf12ksg1wrq66zo","Version":{{"Index":12}},{TIMES},"Spec":{{"Name":"functions","Labels":{{}},"DriverConfiguration":{{"Name":"overlay"}},"Attachable":true,"IPAMOptions":{{"Driver":{{"Name":"default"}}}},"Scope":"swarm"}},"DriverState":{{"Name":"overlay","Options":{{"com.docker.network.driver.overlay.vxlanid_list":"4097"}}}},"IPAMOptions":{{"Driver":{{"Name":"default"}},"Configs":[{{"Subnet":"10.0.0.0/16","Gateway":"10.0.0.1"}}]}}}},"Addresses":["{address}/16"]}}]}}"#,
        index = id.number + 20,
    )
}

/// The line of an event about a service.
pub(crate) fn event(action: &str, service: Id, name: &str) -> String {
    let actor = format!(r#"{{"ID":"{service}","Attributes":{{"name":"{name}"}}}}"#);
    let event = format!(
        r#"{{"Type":"service","Action":"{action}","Actor":{actor},"scope":"swarm","time":1795800000}}"#
    );
    event + "\n"
}
