//! Writing quantised model files.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use napi::bindgen_prelude::{JavaScriptClassExt, JsObjectValue, Object, Unknown};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{Env, JsValue, Status};
use napi_derive::napi;
use realm_engine::model::Reply;
use realm_engine::{Coded, Error, ErrorCode};
use realm_quantize::{Mix, Progress, QuantizeOptions, Report};

use crate::args;
use crate::error::{Result, Thrown, guard, invalid, refused};
use crate::events::{Callback, callback};
use crate::promise::promise;

/// Work in progress: `report` is its promise.
#[napi]
pub struct BindingQuantization {
    cancel: Arc<AtomicBool>,
}

#[napi]
impl BindingQuantization {
    /// Rejects the promise with `ABORTED`, unless it is settled already.
    #[napi]
    pub fn abort(&self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

/// What was done to one tensor.
#[napi(object, object_from_js = false)]
pub struct BindingTensorReport {
    pub name: String,
    pub from: String,
    pub to: String,
}

/// What was done.
#[napi(object, object_from_js = false)]
pub struct BindingReport {
    pub tensors: Vec<BindingTensorReport>,
    pub input_bytes: f64,
    pub output_bytes: f64,
}

impl From<Report> for BindingReport {
    fn from(report: Report) -> Self {
        let tensor = |tensor: realm_quantize::TensorReport| BindingTensorReport {
            name: tensor.name,
            from: tensor.from.name().to_owned(),
            to: tensor.to.name().to_owned(),
        };
        BindingReport {
            tensors: report.tensors.into_iter().map(tensor).collect(),
            input_bytes: report.input_bytes as f64,
            output_bytes: report.output_bytes as f64,
        }
    }
}

/// Everything the work needs, out of JS's hands.
struct Job {
    input: PathBuf,
    output: PathBuf,
    options: QuantizeOptions,
}

impl Job {
    fn new(input: Unknown<'_>, output: Unknown<'_>, options: Unknown<'_>) -> Result<Self> {
        let options = args::object(options, "options")?;
        let property =
            |name: &'static str| Ok::<_, Thrown>((args::property(&options, name)?, name));
        let (mix, name) = property("mix")?;
        let mix = args::string(mix, name)?.parse::<Mix>().map_err(invalid)?;
        let (imatrix, name) = property("imatrix")?;
        let imatrix = args::nullable(imatrix).map(|path| args::string(path, name)).transpose()?;
        let (threads, name) = property("threads")?;
        let (allow_requantize, requantize) = property("allowRequantize")?;
        Ok(Job {
            input: args::string(input, "input")?.into(),
            output: args::string(output, "output")?.into(),
            options: QuantizeOptions {
                imatrix: imatrix.map(PathBuf::from),
                threads: NonZero::new(args::count(threads, name)?),
                allow_requantize: args::boolean(allow_requantize, requantize)?,
                ..QuantizeOptions::new(mix)
            },
        })
    }
}

/// Writes a model file in other types on a thread of its own.
#[napi]
pub fn quantize<'a>(
    env: &'a Env,
    input: Unknown<'_>,
    output: Unknown<'_>,
    options: Unknown<'_>,
    on_progress: Unknown<'_>,
) -> Result<Object<'a>> {
    guard(|| {
        let job = Job::new(input, output, options)?;
        let on_progress: Option<Callback<f64>> = args::nullable(on_progress)
            .map(|function| callback(function, "onProgress"))
            .transpose()?;
        let (reply, report) = promise(env, BindingReport::from)?;
        let cancel = Arc::new(AtomicBool::new(false));
        start(job, on_progress, cancel.clone(), reply);
        let handle = BindingQuantization { cancel }.into_instance(env).map_err(refused)?;
        let mut handle = Object::from_raw(env.raw(), handle.value().value);
        handle.set_named_property("report", report).map_err(refused)?;
        Ok(handle)
    })
}

fn start(
    job: Job,
    on_progress: Option<Callback<f64>>,
    cancel: Arc<AtomicBool>,
    reply: Reply<Report>,
) {
    let progress = move |progress: Progress<'_>| {
        let fraction = progress.done_bytes as f64 / progress.total_bytes.max(1) as f64;
        let mode = ThreadsafeFunctionCallMode::NonBlocking;
        let is_heard =
            on_progress.as_ref().is_none_or(|callback| callback.call(fraction, mode) == Status::Ok);
        match is_heard && !cancel.load(Ordering::Relaxed) {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    };
    let work = move || {
        let Job { input, output, options } = job;
        let run = || realm_quantize::quantize(&input, &output, &options, progress);
        let result = std::panic::catch_unwind(AssertUnwindSafe(run));
        reply.send(match result {
            Ok(result) => result.map_err(|error| {
                let code = match error.code() {
                    realm_quantize::ErrorCode::Shared(code) => code.into(),
                    realm_quantize::ErrorCode::WriteFailed => ErrorCode::WriteFailed,
                    realm_quantize::ErrorCode::StorageFull => ErrorCode::StorageFull,
                };
                Error::Other { code, message: error.to_string() }
            }),
            Err(panic) => Err(Error::from_panic(panic.as_ref())),
        });
    };
    // A thread that cannot be started drops the reply, which answers.
    drop(std::thread::Builder::new().name("realm-quantize".into()).spawn(work));
}
