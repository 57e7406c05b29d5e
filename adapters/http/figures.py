"""What HTTP counts, for Prometheus and the status page."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["Figures"]


class Figures:
    """The figures of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        events = Counter(
            "touchlog_events",
            "Events that came in over HTTP, by what became of them",
            ["status"],
            registry=self.registry,
        )
        self.recorded, self.duplicates, self.conflicts, self.rejected = (
            events.labels(status) for status in ("recorded", "duplicate", "conflict", "rejected")
        )
        self.append_s = Histogram(
            "touchlog_append_seconds",
            "Time from the whole body of a POST /v1/events to its answer, which leaves after the commit",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
            registry=self.registry,
        )
        self.requests = Counter(
            "touchlog_http_requests",
            "Requests answered, by route and status",
            ["route", "status"],
            registry=self.registry,
        )
        self.waiting = Gauge(
            "touchlog_http_appends_waiting", "Requests whose events wait for a commit", registry=self.registry
        )
        self.commits = Gauge(
            "touchlog_log_commits",
            "Commits to the log by this process since its start",
            registry=self.registry,
        )
        self.head = Gauge("touchlog_log_head_position", "Newest position of the log", registry=self.registry)
        self.columns_written = Gauge(
            "touchlog_columns_written_position",
            "Position up to which the columns are in files; what is behind is read from the log by whoever asks",
            registry=self.registry,
        )
        self.lag_positions = Gauge(
            "touchlog_projection_lag_positions",
            "Events a read model has not seen",
            ["projection"],
            registry=self.registry,
        )
        self.lag_s = Gauge(
            "touchlog_projection_lag_seconds",
            "Age of the first event a read model has not seen",
            ["projection"],
            registry=self.registry,
        )
        self.parked = Gauge(
            "touchlog_projection_parked",
            "Events that a read model could not fold, and those that wait behind them",
            ["projection"],
            registry=self.registry,
        )
        self.differences = Gauge(
            "touchlog_projection_differences",
            "Rows of a read model that are not those that follow from the log",
            ["projection"],
            registry=self.registry,
        )
        self.checked_position = Gauge(
            "touchlog_projection_checked_position",
            "Position up to which the newest rows of a read model were compared with the log",
            ["projection"],
            registry=self.registry,
        )
        self.swept_at_s = Gauge(
            "touchlog_projection_swept_timestamp_seconds",
            "When the whole of a read model was last compared with the log",
            ["projection"],
            registry=self.registry,
        )
        self.rejected_open = Gauge(
            "touchlog_rejected_open", "Kept items that nobody has looked after", registry=self.registry
        )
        self.links_refused = Gauge(
            "touchlog_identity_links_refused",
            "Links of identifiers that are refused as resolved now, by a limit of their kind or by a split",
            registry=self.registry,
        )
        self.refused = Counter(
            "touchlog_deliveries_refused",
            "Deliveries whose signature was bad or stale; nothing of them is kept",
            ["channel", "endpoint"],
            registry=self.registry,
        )
        self.channel_last_s = Gauge(
            "touchlog_channel_last_delivery_timestamp_seconds",
            "Receipt of the newest delivery of a channel's endpoint (or key)",
            ["channel", "name"],
            registry=self.registry,
        )
        self.channel_events = Gauge(
            "touchlog_channel_events",
            "Events of a channel's endpoint (or key), by what became of them, since its beginning",
            ["channel", "name", "status"],
            registry=self.registry,
        )
        self.channel_holes = Gauge(
            "touchlog_channel_holes",
            "Numbers of a source's own numbering that did not come",
            ["channel", "name"],
            registry=self.registry,
        )
        self.streams = Gauge("touchlog_http_streams", "Open event streams", registry=self.registry)
