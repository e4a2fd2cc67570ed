//! What every command works with: options, names, standard output, the daemon.

use rtm_client::{
    Address, Admin, CONNECT_TIMEOUT, Connection, Done, FollowConfig, Follower, Item, Place, Secret,
};
use rtm_model::Names;
use rtm_model::text::{Options, Printer};

use crate::failure::{Failure, Result, file_error};
use crate::output::Out;

/// The environment of a command. The connection is made by the first that
/// needs it, and kept for the others of a batch.
pub(crate) struct Env<'n> {
    pub(crate) options: Options,
    pub(crate) names: &'n Names,
    pub(crate) out: Out,
    admin: Option<Admin>,
}

impl<'n> Env<'n> {
    pub(crate) fn new(options: Options, names: &'n Names) -> Env<'n> {
        let out = Out::new(options.color);
        Env { options, names, out, admin: None }
    }

    /// Where the daemon is.
    pub(crate) fn address(&self) -> Result<Address> {
        let mut place = Place::from_environment();
        place.socket.clone_from(&self.options.socket);
        place.directory = self.options.runtime_dir.as_ref().map(Into::into);
        place.find().map_err(|error| rtm_client::Error::Connect(error.into()).into())
    }

    /// The secret of `--token-file`.
    fn secret(&self) -> Result<Option<Secret>> {
        let Some(path) = &self.options.token_file else { return Ok(None) };
        let content = std::fs::read(path).map_err(|error| file_error(path, &error))?;
        let secret = Secret::of_file(&content)
            .map_err(|why| Failure::usage(format_args!("--token-file: {path}: {why}")))?;
        Ok(Some(secret))
    }

    /// The connection for requests.
    pub(crate) fn admin(&mut self) -> Result<&mut Admin> {
        if self.admin.is_none() {
            let (address, secret) = (self.address()?, self.secret()?);
            let connection =
                Connection::open(&address, CONNECT_TIMEOUT).map_err(rtm_client::Error::Connect)?;
            self.admin = Some(Admin::proving(connection, "rtm", secret)?);
        }
        match &mut self.admin {
            Some(admin) => Ok(admin),
            None => Err(Failure::refused("no connection")),
        }
    }

    /// The connection, for who needs it beside the rest; to be put back.
    pub(crate) fn take_admin(&mut self) -> Result<Admin> {
        self.admin()?;
        self.admin.take().ok_or_else(|| Failure::refused("no connection"))
    }

    /// Puts the connection back.
    pub(crate) fn put_admin(&mut self, admin: Admin) {
        self.admin = Some(admin);
    }

    /// Asks one line. An answer that is no success is a failure with what the
    /// daemon says.
    pub(crate) fn ask(
        &mut self,
        line: &str,
        item: &mut dyn FnMut(Item<'_>, &mut Out) -> Result<()>,
    ) -> Result<Done> {
        let done = self.ask_any(line, item)?;
        succeeded(done)
    }

    /// Asks one line, whatever comes of it.
    pub(crate) fn ask_any(
        &mut self,
        line: &str,
        item: &mut dyn FnMut(Item<'_>, &mut Out) -> Result<()>,
    ) -> Result<Done> {
        let mut failed = None;
        self.admin()?;
        let (Some(admin), out) = (&mut self.admin, &mut self.out) else {
            return Err(Failure::refused("no connection"));
        };
        let done = admin.request(line, &mut |piece| match item(piece, out) {
            Ok(()) => true,
            Err(failure) => {
                failed = Some(failure);
                false
            }
        })?;
        match failed {
            Some(failure) => Err(failure),
            None => Ok(done),
        }
    }

    /// Asks one line whose answer is JSON values.
    pub(crate) fn ask_json(&mut self, line: &str) -> Result<(Vec<serde_json::Value>, Done)> {
        let mut values = Vec::new();
        let done = self.ask_any(line, &mut |item, _| {
            let text = item.text();
            let value = serde_json::from_str(&text).map_err(|error| {
                Failure::refused(format_args!("the daemon's answer is no JSON: {error}"))
            })?;
            values.push(value);
            Ok(())
        })?;
        Ok((values, done))
    }

    /// Follows the daemon.
    pub(crate) fn follow(&self, config: FollowConfig) -> Result<Follower> {
        Ok(Follower::connect(&self.address()?, config)?)
    }

    /// The printer that the options ask for.
    pub(crate) fn printer(&self) -> Printer<'n> {
        Printer::new(&self.options, self.names, self.out.palette())
    }

    /// Drops the connection: whoever is there next time is asked.
    pub(crate) fn forget(&mut self) {
        self.admin = None;
    }

    /// Says goodbye to the daemon.
    pub(crate) fn close(&mut self) {
        if let Some(admin) = self.admin.take() {
            admin.goodbye();
        }
    }
}

/// Turns an answer that is no success into a failure.
pub(crate) fn succeeded(done: Done) -> Result<Done> {
    if done.code == 0 {
        return Ok(done);
    }
    let line = if done.text.is_empty() { "refused by the daemon".to_owned() } else { done.text };
    Err(Failure::Said { code: u8::try_from(done.code).unwrap_or(2), line })
}
