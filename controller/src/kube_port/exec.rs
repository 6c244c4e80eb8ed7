//! Commands in pods: hooks of backups. Over a WebSocket, in the name of the System's executor.

use interlock_core::{
    analysis::{Answer, Observation},
    backup::hooks::{self, MAX_STDERR_BYTES},
    port::{Identity, Port as _},
};
use interlock_crds::ExecHook;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::{
    Api,
    api::AttachParams,
    client::{Body, Client},
};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{KubePort, error::port_error};

/// So much of the end of the standard error is kept before it is cleaned.
const KEPT: usize = 4 * MAX_STDERR_BYTES;

impl KubePort {
    /// Runs the command in the one ready pod that is meant, and waits for its end.
    pub(super) async fn exec(&self, identity: &Identity, namespace: &str, hook: &ExecHook) -> Answer {
        let labels = hooks::labels_of(hook);
        let pods = match self.live_list_labelled("", "v1", "Pod", Some(namespace), &labels).await {
            Ok(pods) => pods,
            Err(why) => return Answer::Seen(Observation::Error(why.to_string())),
        };
        let (pod, container) = match hooks::pod_of(hook, &pods) {
            Ok(found) => found,
            Err(why) => return Answer::Seen(Observation::Error(why)),
        };
        let parameters =
            AttachParams { container, stdin: false, stdout: false, stderr: true, ..AttachParams::default() };
        let api: Api<Pod> = Api::namespaced(self.as_identity(identity), namespace);
        let mut process = match api.exec(&pod, hook.command.clone(), &parameters).await {
            Ok(process) => process,
            Err(error) => return Answer::Seen(Observation::Error(Self::refused(identity, namespace, error))),
        };
        let (status, stderr) = (process.take_status(), process.stderr());
        let read = async {
            match stderr {
                Some(stderr) => tail(stderr).await,
                None => String::new(),
            }
        };
        let status = async {
            match status {
                Some(status) => status.await,
                None => None,
            }
        };
        let (stderr, status) = tokio::join!(read, status);
        Answer::Seen(match status.as_ref().and_then(exit_code) {
            Some(exit_code) => Observation::Exec { exit_code, stderr },
            None => Observation::Error(match status.and_then(|status| status.message) {
                Some(why) => format!("its command could not be run in pod {pod}: {}", hooks::shown(&why)),
                None => format!("the connection to pod {pod} broke off, so how its command ended is not known"),
            }),
        })
    }

    fn refused(identity: &Identity, namespace: &str, error: kube::Error) -> String {
        use interlock_core::port::PortError;
        match (port_error(error), identity) {
            (PortError::Forbidden(why), Identity::Impersonate(user)) => hooks::may_not_exec(namespace, user, &why),
            (why, _) => why.to_string(),
        }
    }

    /// The same client, in the name of somebody else.
    fn as_identity(&self, identity: &Identity) -> Client {
        let Identity::Impersonate(user) = identity else { return self.client.clone() };
        let (client, user) = (self.client.clone(), http::HeaderValue::from_str(user).ok());
        let service = tower::service_fn(move |mut request: http::Request<Body>| {
            let (client, user) = (client.clone(), user.clone());
            async move {
                // Never under Interlock's own rights instead.
                let Some(user) = user else {
                    return Err(kube::Error::Service("the executor's name cannot be sent".into()));
                };
                request.headers_mut().insert("Impersonate-User", user);
                client.send(request).await
            }
        });
        Client::new(service, "default")
    }
}

/// The end of what is written, as the whole of it must be read for the command not to stand still.
async fn tail(mut from: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut buffer) = (Vec::new(), vec![0_u8; 1_024]);
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        kept.extend(buffer.iter().take(read));
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// How a command ended, as the kubelet tells it.
fn exit_code(status: &Status) -> Option<i32> {
    if status.status.as_deref() == Some("Success") {
        return Some(0);
    }
    let causes = status.details.as_ref()?.causes.iter().flatten();
    let mut code = causes.filter(|cause| cause.reason.as_deref() == Some("ExitCode"));
    code.find_map(|cause| cause.message.as_deref()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use base64::Engine as _;
    use tokio::{
        io::AsyncWriteExt as _,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{clock::Clock, kube_port::KubePortOptions, telemetry::Metrics};

    #[test]
    fn the_end_of_a_command_is_read_from_what_the_kubelet_tells() {
        let status = |value: serde_json::Value| serde_json::from_value::<Status>(value).unwrap();
        assert_eq!(exit_code(&status(serde_json::json!({"status": "Success"}))), Some(0));
        let failed = serde_json::json!({
            "status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated with non-zero exit code",
            "details": {"causes": [{"reason": "ExitCode", "message": "7"}]},
        });
        assert_eq!(exit_code(&status(failed)), Some(7));
        let broken = serde_json::json!({"status": "Failure", "reason": "InternalError", "message": "no such program"});
        assert_eq!(exit_code(&status(broken)), None);
    }

    /// An API server with one ready pod `db-0`, whose commands end with 7, on a real connection.
    async fn serve(listener: TcpListener, asked: Arc<Mutex<Vec<String>>>, may_exec: bool) {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let asked = Arc::clone(&asked);
            tokio::spawn(async move {
                while let Some(head) = head(&mut connection).await {
                    let header = |name: &str| {
                        let mut lines = head.lines().filter_map(|line| line.split_once(": "));
                        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
                    };
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let user = header("Impersonate-User").unwrap_or_default();
                    asked.lock().unwrap().push(format!("{path} as {user}"));
                    if path.contains("/exec?") && may_exec {
                        let key =
                            format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", header("Sec-WebSocket-Key").unwrap());
                        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, key.as_bytes());
                        let accept = base64::engine::general_purpose::STANDARD.encode(digest.as_ref());
                        let protocol = header("Sec-WebSocket-Protocol").unwrap();
                        let protocol = protocol.split(',').next().unwrap().trim();
                        let answer = format!(
                            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
                        );
                        connection.write_all(answer.as_bytes()).await.unwrap();
                        let status = serde_json::json!({"status": "Failure", "reason": "NonZeroExitCode",
                            "details": {"causes": [{"reason": "ExitCode", "message": "7"}]}});
                        for (channel, text) in [(2_u8, "no such table".to_owned()), (3, status.to_string())] {
                            let frame = [
                                &[0x82, 126],
                                &((text.len() + 1) as u16).to_be_bytes()[..],
                                &[channel],
                                text.as_bytes(),
                            ]
                            .concat();
                            connection.write_all(&frame).await.unwrap();
                        }
                        connection.write_all(&[0x88, 2, 0x03, 0xe8]).await.unwrap();
                        let _ = connection.read(&mut [0_u8; 64]).await;
                        return;
                    }
                    let pods = serde_json::json!({"items": [{"metadata": {"name": "db-0"}, "spec": {"containers": [{"name": "db"}]},
                        "status": {"conditions": [{"type": "Ready", "status": "True"}]}}]});
                    let (code, body) = match path.split('?').next().unwrap_or_default() {
                        "/api/v1" => (
                            200,
                            serde_json::json!({"resources": [{"name": "pods", "kind": "Pod", "namespaced": true}]}),
                        ),
                        "/api/v1/namespaces/bank/pods" => (200, pods),
                        _ => (
                            403,
                            serde_json::json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "no"}),
                        ),
                    };
                    let body = body.to_string();
                    let answer = format!(
                        "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    connection.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    }

    async fn head(connection: &mut TcpStream) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(connection.read_u8().await.ok()?);
        }
        String::from_utf8(head).ok()
    }

    #[tokio::test]
    async fn a_command_is_run_in_the_executors_name_and_its_end_is_told() {
        let hook: ExecHook = serde_json::from_value(serde_json::json!({
            "pod": [{"key": "app", "value": "db"}], "command": ["freeze", "all now"],
        }))
        .unwrap();
        let executor = Identity::Impersonate("system:serviceaccount:bank:executor".to_owned());
        for may_exec in [true, false] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            let asked = Arc::<Mutex<Vec<String>>>::default();
            tokio::spawn(serve(listener, Arc::clone(&asked), may_exec));
            let (clock, metrics) = (Clock::new(), Metrics::new());
            let client =
                super::super::client(kube::Config::new(address.parse().unwrap()), clock.clone(), metrics).unwrap();
            let (port, _) = KubePort::new(client, clock, None, KubePortOptions::default());
            let answer = port.exec(&executor, "bank", &hook).await;
            if may_exec {
                let stderr = "no such table".to_owned();
                assert_eq!(answer, Answer::Seen(Observation::Exec { exit_code: 7, stderr }));
                let asked = asked.lock().unwrap();
                let exec = asked.iter().find(|line| line.contains("/exec?")).unwrap();
                assert!(exec.contains("command=freeze&command=all") && exec.contains("container=db"), "{exec}");
                assert!(exec.ends_with("as system:serviceaccount:bank:executor"), "{exec}");
            } else {
                let Answer::Seen(Observation::Error(why)) = answer else { panic!("{answer:?}") };
                assert!(why.contains("pods/exec") && why.contains("--with-role"), "{why}");
            }
        }
    }

    #[tokio::test]
    async fn the_end_of_a_long_complaint_is_kept() {
        let text = format!("{}the end", "x".repeat(20 * KEPT));
        let kept = tail(text.as_bytes()).await;
        assert_eq!(kept.len(), KEPT);
        assert!(kept.ends_with("the end"));
    }
}
