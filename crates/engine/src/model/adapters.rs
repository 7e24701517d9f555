//! Adapters of a model on the engine's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};

use realm_model::AdapterInfo;

use super::engine_loop::no_weights;
use super::{ModelHandle, Reply, Source, call, lock, spawn};
use crate::adapter::Lora;
use crate::error::{Error, Result};
use crate::loaded::Loaded;

impl ModelHandle {
    /// Reads an adapter on a thread of its own and makes it ready for this model; its
    /// number is what [`Lora`] names it by.
    ///
    /// # Errors
    /// Through `reply`: what is wrong with the file, what the backend has against it,
    /// `DISPOSED`, `INVALID_ARGUMENT` for a model without weights.
    pub fn load_adapter(&self, source: Source, reply: Reply<(u32, AdapterInfo)>) {
        let loaded = match self.loaded() {
            Ok(loaded) => loaded,
            Err(error) => return reply.send(Err(error)),
        };
        let (commands, adapters) = (self.commands.clone(), self.adapters.clone());
        let work = move || {
            let result = catch_unwind(AssertUnwindSafe(|| load(&loaded, source)));
            match result.unwrap_or_else(|panic| Err(Error::from_panic(panic.as_ref()))) {
                Ok((adapter, info)) => {
                    let id = lock(&adapters).add();
                    call(&commands, reply, move |engine| {
                        engine.add_adapter(id, adapter);
                        Ok((id, info))
                    });
                }
                Err(error) => reply.send(Err(error)),
            }
        };
        // A thread that cannot be started drops the reply, which answers.
        drop(spawn("realm-adapter", work));
    }

    /// Forgets an adapter. What runs with it ends with it; it leaves the default.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when there is no such adapter, `DISPOSED`.
    pub fn remove_adapter(&self, adapter: u32) -> Result<()> {
        self.loaded()?;
        let mut adapters = lock(&self.adapters);
        adapters.check("adapter", adapter)?;
        adapters.open.remove(&adapter);
        self.tell("remove an adapter", move |engine| {
            engine.remove_adapter(adapter);
            Ok(())
        });
        Ok(())
    }

    /// Sets what everything runs with from now on that does not say otherwise.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` when there is no such adapter, `DISPOSED`.
    pub fn set_default_adapters(&self, default: Vec<Lora>) -> Result<()> {
        self.loaded()?;
        let adapters = lock(&self.adapters);
        default.iter().try_for_each(|lora| adapters.check("adapter", lora.adapter))?;
        self.tell("set adapters", move |engine| engine.set_default_adapters(default));
        Ok(())
    }
}

fn load(loaded: &Loaded, source: Source) -> Result<(realm_ir::Uploaded, AdapterInfo)> {
    let loader = loaded.adapters.as_ref().ok_or_else(no_weights)?;
    loader.load(&loaded.gguf, &source.open()?)
}
