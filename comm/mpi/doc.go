// Package mpi is the transport between the processes that mpirun started: a comm.Group over libmpi.
//
// It is built only where it is asked for, since it needs cgo and an MPI library. The compiler wrapper of the library that
// mpirun belongs to says where that is; the same source builds with Open MPI and with MPICH:
//
//	CC=mpicc CGO_ENABLED=1 go build -tags mpi ./...
//	mpirun -n 4 ./program
//
// Without the tag Available says so and how to build. A program asks for the group of all processes and, when it is done,
// lets go of the library, without which mpirun takes it for dead:
//
//	g, err := mpi.Init(time.Minute)
//	...
//	err = errors.Join(g.Close(), mpi.Finalize())
//
// # What is MPI's and what is not
//
// Messages are matched, ordered, timed and failed by comm.Mesh, as on every transport. MPI carries frames: a header of
// HeaderBytes and a payload, one MPI message each, with one MPI tag. All MPI calls are nonblocking, made under one lock
// (MPI_THREAD_SERIALIZED is needed), and return their errors; nothing here calls MPI_Abort. Sums are comm's own, over
// these messages, with the bits of the canonical order. The library's own MPI_Allreduce, in whatever order it adds, is
// there to be asked for by name (comm.Native).
//
// The library never holds an address of Go's memory. A payload is copied into a buffer of C's before it is sent and out
// of one when it has come, which costs two copies that MPI could have saved. For that a Send or a Recv whose deadline
// passes returns then: MPI cannot take back a message that has begun, and would go on reading the sender's vector, or
// writing the receiver's, after their owners had been told that they have them back.
//
// # Flow
//
// A message of at most comm.EagerBytes is one frame, sent at once as long as the receiver's mesh has taken all but
// creditBytes of those before. A longer one asks for leave first, and goes in parts of partBytes when somebody wants it.
// What the mesh does not take waits in its frame, at most creditBytes a peer, and all that comes after it from that peer
// waits behind it.
//
// # Waiting
//
// MPI has no file descriptor to sleep on, so somebody has to look. Who waits looks: for twenty microseconds without pause,
// if there is a core for each process of this host, then a while between giving way. After that one thread of the
// process looks on everybody's behalf, and sleeps in between a 64th of the time in which nothing has come, from 20
// microseconds (which the kernel makes about 70) to a millisecond. So a wait is made longer by a 64th, and a process at rest
// looks a thousand times a second, which takes about a twentieth of a core. Open MPI's and MPICH's own blocking calls
// spin instead: they save those microseconds, and burn a core for each process that waits.
//
// # Dead processes
//
// MPI says nothing about a peer that has died. mpirun commonly kills all others then; where it does not, who waits for the
// dead one learns by the group's timeout, and everybody else by what that one tells them. A rank that closes its group
// or gives up a collective says so, as on every transport.
package mpi
