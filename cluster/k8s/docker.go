package k8s

import _ "embed"

// Dockerfile builds an image that Write's pods can run, from covey's sources. It is deploy/Dockerfile.
//
//go:embed Dockerfile
var Dockerfile []byte
