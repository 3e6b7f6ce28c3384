//! The gateway needs root for nothing but the engine's socket, and for that the socket's group will do.

use docker_sock::{Access, Host};
use kit::sys::user;

use super::Settings;

/// The user and group that root becomes. A number that nobody else is likely to use: who runs as the same user on the
/// same host could look into the gateway.
pub(crate) const USER: u32 = 60_808;

/// Turns root into a user of no rights with the group of the engine's socket. To be called before threads are started; where it
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
        Access::Everybody => user::leave_root(USER, None),
        Access::Group(group) => user::leave_root(USER, Some(group)),
        Access::Owner => {
            return log::warn!("runs as root: the engine's socket, see DOCKER_HOST, is for root alone");
        }
    };
    match left {
        Ok(()) => log::info!("runs as user {USER} from here, {access}"),
        Err(error) => log::warn!("runs as root: failed to leave it: {error}"),
    }
}
