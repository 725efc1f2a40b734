// SPDX-License-Identifier: Apache-2.0

// Package livetest has flows for tests.
package livetest
