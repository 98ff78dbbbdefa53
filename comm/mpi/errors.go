package mpi

import "errors"

// ErrUnavailable is what Available and Init return in a program that was built without MPI.
var ErrUnavailable = errors.New("mpi: this program was built without MPI: build it by CC=mpicc CGO_ENABLED=1 go build -tags mpi, " +
	"with the mpicc of the library whose mpirun starts it (Debian: libopenmpi-dev or libmpich-dev), or use transport tcp or shm")

// errStuck is why the library cannot be asked for anything that all processes do.
var errStuck = errors.New("mpi: a sum or a meeting of all processes was given up before, and MPI cannot take it back")

// errFrame is in the cause of a peer that was lost because a frame of it made no sense.
var errFrame = errors.New("its frame makes no sense")
