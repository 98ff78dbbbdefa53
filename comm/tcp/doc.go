// Package tcp is the transport for workers in different processes and on different machines.
//
// A group forms in two parts, so that whoever coordinates can hand the addresses round in between:
//
//	ln, err := tcp.Listen(ctx, "127.0.0.1:0", nil)      // the port is known now: ln.Addr()
//	addrs := ...                                        // everybody's address, by rank
//	g, err := ln.Connect(ctx, rank, addrs, tcp.Config{Secret: secret})
//	defer g.Close()
//
// Connect makes a full mesh, one connection for each pair of ranks; the higher rank dials. Both ends prove with a
// keyed hash over fresh nonces that they hold the group's secret, which itself is never sent. When Connect returns,
// nobody listens any more.
//
// # Who gets in
//
// Without TLS only loopback addresses are listened on and dialled. With TLS, which is 1.3 or nothing, both sides
// present a certificate, and each verifies that the other's chains up to the cluster's CA, is valid now and is meant
// for its side (server or client). The dialling side also verifies that the certificate names the host that it
// dialled. A certificate says "a node of this cluster"; that the node belongs to this group, and which rank it is,
// the secret says, and the proof is bound to the TLS session. Package pki makes such certificates.
//
// # On the wire
//
// Every message is one frame, or several when it is longer than FrameBytes: a header of HeaderBytes and the payload.
// All numbers are little-endian.
//
//	 0  magic       4   "COVY"
//	 4  version     1
//	 5  kind        1   1 hello, 2 data, 3 more, 4 abort, 5 goodbye
//	 6  zero        2
//	 8  generation  8
//	16  from        4   the sender's rank
//	20  length      4   payload bytes in this frame, at most FrameBytes
//	24  tag         8
//	32  rest        8   payload bytes of this message that come in later frames (kind more)
//	40  sum         4   CRC32C of the payload
//	44  check       4   CRC32C of the 44 bytes before
//
// A frame with rest above 0 is full. Data and its more frames follow one another; only an abort may come between.
// Hello, abort and goodbye frames are control bytes in the ledger; the rest is header and payload.
//
// What a stranger sends closes the stranger's connection and nothing else. A broken frame on an established link
// loses that peer, and the error says what was wrong with it.
//
// # Waiting
//
// A Send that makes no progress for the group's timeout ends with comm.ErrTimeout. The bound is for each frame, so a
// long message over a slow network is not taken for a stalled peer as long as FrameBytes pass in each timeout. Each
// message is read straight into the memory of whoever asked for it; messages that nobody has asked for yet wait in
// buffers up to comm.EagerBytes a peer, and beyond that in the socket. While one waits there, later messages from that
// peer wait behind it, whatever their tag, and so do its abort, its goodbye and the news of its death: who waits for it
// then learns of them at the timeout, or from another rank.
//
// # Who reads
//
// Over TLS, and on systems other than Linux, a goroutine a link blocks in the connection. On Linux plain sockets are taken
// from Go's runtime and read by the goroutine that waits: first without sleeping (for 20 us where each rank has a
// processor of its own, then up to 200 us giving way to others), then asleep in poll(2). After some milliseconds
// without anything it leaves the sockets to one goroutine of the group, which sleeps in the kernel on everybody's behalf;
// that one also serves them while nobody waits, so that a message is taken, and a death noticed, within milliseconds. A
// Send writes from the caller's memory, header and payload by one call, and reads what comes while its socket is full.
package tcp
