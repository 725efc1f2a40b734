# SPDX-License-Identifier: Apache-2.0
body = File.binread(ENV["DIR"] + "/body")
run ->(env) { [200, { "Content-Type" => "text/plain", "Content-Length" => body.bytesize.to_s }, [body]] }
