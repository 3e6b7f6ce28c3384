//! The gateway needs root for nothing but the engine's socket, and for that the socket's group will do.

use docker_sock::{Access, Host};
use kit::sys::user;

use super::Settings;

/// Turns root into nobody with the group of the engine's socket. To be called before threads are started; where it
/// cannot be done the log says why, and the gateway goes on as root.
pub(crate) fn leave_root(settings: &Settings) {
    if !user::is_root() {
        return;
    }
    let access = match Host::parse(&settings.docker_host).map(|host| host.access()) {
        Ok(Ok(access)) => access,
        Ok(Err(error)) => return log::warn!("runs as root: failed to look at the engine's socket: {error}"),
        Err(_) => return, // said when it is connected to
    };
    let left = match access {
        Access::Everybody => user::become_nobody(None),
        Access::Group(group) => user::become_nobody(Some(group)),
        Access::Owner => {
            return log::warn!("runs as root: the engine's socket, see DOCKER_HOST, is for its owner alone");
        }
    };
    match left {
        Ok(()) => log::info!("runs as nobody from here, {access}"),
        Err(error) => log::warn!("runs as root: failed to become nobody: {error}"),
    }
}
