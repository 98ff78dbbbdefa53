#!/bin/sh
# Tells whether the committed kernels are what the generator writes.
set -eu
cd "$(dirname "$0")"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
go run . -out "$tmp/kernels_amd64.s" -stubs "$tmp/kernels_amd64.go" -pkg vec
go run . -products -out "$tmp/products_amd64.s" -stubs "$tmp/products_amd64.go" -pkg vec
go run . -neon "$tmp/products_arm64.s"
for f in kernels_amd64.s kernels_amd64.go products_amd64.s products_amd64.go products_arm64.s; do
	# The first line names the command, and with it the folder.
	tail -n +2 "$tmp/$f" >"$tmp/want"
	tail -n +2 "../$f" | cmp -s - "$tmp/want" || {
		echo "vec/$f is not what vec/gen writes: run go generate ./vec" >&2
		exit 1
	}
done
echo "vec: the committed kernels are the generator's"
