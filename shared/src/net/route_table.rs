//! Routes that can be told: a router, and the list of what was put into it.
//!
//! A cluster port takes its routes in this form only, so the list that tests go through has every
//! one of them: each is refused to strangers, and none is on a public port.

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    handler::Handler,
    middleware::{self, Next},
    response::Response,
    routing::{MethodFilter, on},
};
use http::Method;

use super::tasks::Tasks;
use crate::wire::{Code, Problem};

/// One route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// The verb.
    pub method: Method,
    /// The path, without parameters.
    pub path: &'static str,
}

/// Routes whose handlers want a state `S`.
#[derive(Clone, Debug)]
pub struct RouteTable<S = ()> {
    router: Router<S>,
    routes: Vec<Route>,
}

impl<S: Clone + Send + Sync + 'static> Default for RouteTable<S> {
    fn default() -> Self {
        Self { router: Router::new(), routes: Vec::new() }
    }
}

impl<S: Clone + Send + Sync + 'static> RouteTable<S> {
    /// No routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// And `GET path`.
    #[must_use]
    pub fn get<T: 'static>(self, path: &'static str, handler: impl Handler<T, S>) -> Self {
        self.with(Method::GET, MethodFilter::GET, path, handler)
    }

    /// And `POST path`.
    #[must_use]
    pub fn post<T: 'static>(self, path: &'static str, handler: impl Handler<T, S>) -> Self {
        self.with(Method::POST, MethodFilter::POST, path, handler)
    }

    fn with<T: 'static>(
        mut self,
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        handler: impl Handler<T, S>,
    ) -> Self {
        self.router = self.router.route(path, on(filter, handler));
        self.routes.push(Route { method, path });
        self
    }

    /// The bodies of requests to the routes so far are this long at most.
    #[must_use]
    pub fn limit_bodies(mut self, max_bytes: usize) -> Self {
        self.router = self.router.layer(DefaultBodyLimit::max(max_bytes));
        self
    }

    /// The routes so far are answered where the background of `tasks` is, not where the port is
    /// served.
    #[must_use]
    pub fn done_in_background(mut self, tasks: &Tasks) -> Self {
        let layer = middleware::from_fn_with_state(tasks.clone(), in_background);
        self.router = self.router.layer(layer);
        self
    }

    /// And those of `other`.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.routes.extend(other.routes);
        self
    }

    /// Gives the handlers their state.
    pub fn with_state<S2: Clone + Send + Sync + 'static>(self, state: S) -> RouteTable<S2> {
        RouteTable { router: self.router.with_state(state), routes: self.routes }
    }

    /// What there is.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

async fn in_background(State(tasks): State<Tasks>, request: Request, next: Next) -> Response {
    tasks.done_in_background(next.run(request)).await
}

impl RouteTable {
    /// The router, in which every other path is a problem.
    pub fn into_router(self) -> Router {
        self.router.fallback(async || {
            Problem::new(Code::NoRoute, "there is no such route on the cluster port")
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, extract::State};
    use http::{Request, StatusCode};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn what_is_listed_is_what_is_answered() {
        let small = RouteTable::new().get("/a", async |State(n): State<u8>| n.to_string());
        let small = small.post("/a", async || "posted").with_state(7);
        let large = RouteTable::new().post("/b", async |body: String| body).limit_bodies(4);
        let table: RouteTable = small.merge(large.with_state(()));
        let listed: Vec<_> = table.routes().iter().map(|r| (r.method.as_str(), r.path)).collect();
        assert_eq!(listed, [("GET", "/a"), ("POST", "/a"), ("POST", "/b")]);
        let router = table.into_router();
        let ask = async |method: &str, path: &str, body: &'static str| {
            let request = Request::builder().method(method).uri(path).body(Body::from(body));
            router.clone().oneshot(request.unwrap()).await.unwrap().status()
        };
        assert_eq!(ask("GET", "/a", "").await, StatusCode::OK);
        assert_eq!(ask("POST", "/a", "").await, StatusCode::OK);
        assert_eq!(ask("POST", "/b", "1234").await, StatusCode::OK);
        assert_eq!(ask("POST", "/b", "12345").await, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(ask("DELETE", "/a", "").await, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(ask("GET", "/c", "").await, StatusCode::NOT_FOUND);
    }
}
