//! Who may do what, decided once, when a connection is accepted.
//!
//! Over the Unix socket the kernel says who connected. Root, the daemon's own
//! user, and the users and groups that the configuration names may do all;
//! everybody else on this host may read. A TCP peer has no identity and may
//! read.

use std::os::fd::AsFd;

use rtm_tables::wire::Role;

use crate::config::{NameOrNumber, RoleNames};

/// Users and groups that may do all, by number.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Admins {
    own: u32,
    users: Vec<u32>,
    groups: Vec<u32>,
}

/// Who is at the other end of a Unix connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Peer {
    /// Its process; 0: in a pid namespace that ours can't see.
    pub(crate) pid: u32,
    /// Its effective user.
    pub(crate) uid: u32,
    /// Its effective group, then its supplementary ones.
    pub(crate) groups: Vec<u32>,
}

impl Peer {
    /// As the kernel knew it when it connected.
    pub(crate) fn of(socket: impl AsFd) -> Result<Peer, ipc::SystemError> {
        let credentials = ipc::peer::credentials(&socket)?;
        let mut groups = vec![credentials.gid];
        // Before Linux 4.13 there is no such list: then the group alone counts.
        groups.extend(ipc::peer::groups(&socket).unwrap_or_default());
        let pid = credentials.pid.map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
        Ok(Peer { pid, uid: credentials.uid, groups })
    }
}

impl Admins {
    /// Those of the configuration; names are looked up in `passwd` and `group`
    /// (the content of `/etc/passwd` and `/etc/group`).
    ///
    /// # Errors
    /// A name that isn't there, with its key.
    pub(crate) fn new(
        names: &RoleNames,
        passwd: &str,
        group: &str,
        own: u32,
    ) -> Result<Admins, String> {
        let users = resolve(&names.admin_users, passwd).map_err(|name| {
            format!(
                "roles.admin_users: {name}: no such user in /etc/passwd; a name of it or a number would be right"
            )
        })?;
        let groups = resolve(&names.admin_groups, group).map_err(|name| {
            format!(
                "roles.admin_groups: {name}: no such group in /etc/group; a name of it or a number would be right"
            )
        })?;
        Ok(Admins { own, users, groups })
    }

    /// Those of the configuration, looked up on this host.
    pub(crate) fn of_host(names: &RoleNames) -> Result<Admins, String> {
        let read = |path| std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned());
        let own = ipc::process::ids().user_effective;
        let passwd = read("/etc/passwd").unwrap_or_default();
        let group = read("/etc/group").unwrap_or_default();
        Admins::new(names, &passwd, &group, own)
    }

    /// The role of a peer of the Unix socket.
    pub(crate) fn role(&self, peer: &Peer) -> Role {
        let is_admin = peer.uid == 0
            || peer.uid == self.own
            || self.users.contains(&peer.uid)
            || peer.groups.iter().any(|group| self.groups.contains(group));
        if is_admin { Role::Admin } else { Role::Read }
    }
}

/// Both files have the name first and the number third.
fn resolve(names: &[NameOrNumber], file: &str) -> Result<Vec<u32>, String> {
    names
        .iter()
        .map(|wanted| match wanted {
            NameOrNumber::Number(number) => Ok(*number),
            NameOrNumber::Name(name) => file
                .lines()
                .find_map(|line| {
                    let mut fields = line.split(':');
                    (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
                })
                .ok_or_else(|| name.escape_debug().to_string()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nrouter:x:120:130::/:/bin/false\n";
    const GROUP: &str = "root:x:0:\nnetadm:x:44:alice,bob\n";

    fn peer(uid: u32, groups: &[u32]) -> Peer {
        Peer { pid: 1, uid, groups: groups.to_vec() }
    }

    #[test]
    fn credentials_give_the_role() {
        let names = RoleNames {
            admin_users: vec![NameOrNumber::Name("router".to_owned()), NameOrNumber::Number(4242)],
            admin_groups: vec![NameOrNumber::Name("netadm".to_owned())],
        };
        let admins = Admins::new(&names, PASSWD, GROUP, 1000).unwrap();
        for (peer, role) in [
            (peer(0, &[0]), Role::Admin),
            (peer(1000, &[1000]), Role::Admin),
            (peer(120, &[130]), Role::Admin),
            (peer(4242, &[7]), Role::Admin),
            (peer(1001, &[1001, 44]), Role::Admin),
            (peer(1001, &[44]), Role::Admin),
            (peer(1001, &[1001]), Role::Read),
            // A group's number is no user's.
            (peer(44, &[1]), Role::Read),
            (peer(130, &[120]), Role::Read),
            (peer(65534, &[65534]), Role::Read),
        ] {
            assert_eq!(admins.role(&peer), role, "{peer:?}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let names = RoleNames {
            admin_users: vec![],
            admin_groups: vec![NameOrNumber::Name("wheel".to_owned())],
        };
        let error = Admins::new(&names, PASSWD, GROUP, 0).unwrap_err();
        assert!(error.starts_with("roles.admin_groups: wheel: no such group"), "{error}");
    }

    #[test]
    fn the_kernel_says_who_it_is() {
        let (ours, _theirs) = ipc::unix::pair(ipc::unix::Kind::Stream).unwrap();
        let peer = Peer::of(&ours).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(peer.uid, ipc::process::ids().user_effective);
    }
}
