//! The trace that a call belongs to, told to the exchange in the W3C header `traceparent`.

use std::{fmt, sync::Arc};

use tonic::{
    Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// The connection, with each call's trace context.
pub(crate) type Traced = InterceptedService<Channel, TraceContext>;

/// What tells the trace context of the call that is about to be made; nothing tells none.
#[derive(Clone, Default)]
pub(crate) struct TraceContext(Option<Arc<dyn Fn() -> Option<String> + Send + Sync>>);

impl TraceContext {
    /// That which this tells when it is asked.
    pub(crate) fn told_by(current: impl Fn() -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(current)))
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TraceContext").field(&self.0.is_some()).finish()
    }
}

impl Interceptor for TraceContext {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let context = self.0.as_ref().and_then(|current| current());
        // A trace is no reason to fail: one that can't be in a header is left out.
        if let Some(context) = context.and_then(|context| MetadataValue::try_from(context).ok()) {
            request.metadata_mut().insert("traceparent", context);
        }
        Ok(request)
    }
}
