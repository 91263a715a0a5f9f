// What runs in the local cluster's pods. Little besides the standard library, so that it builds in seconds from an empty
// cache.
module previewd.dev/sample

go 1.26.0

require (
	github.com/coder/websocket v1.8.15
	github.com/lib/pq v1.12.3
)
