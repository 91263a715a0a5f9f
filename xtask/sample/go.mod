// What runs in the local cluster's pods. Standard library only, so that it builds in seconds from an empty cache.
module previewd.dev/sample

go 1.26.0
