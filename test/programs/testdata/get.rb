# SPDX-License-Identifier: Apache-2.0
require "net/http"
require "digest"
Net::HTTP.start(ENV["SERVER"], ENV["PORT"].to_i) do |http|
  ENV["N"].to_i.times { puts Digest::SHA256.hexdigest(http.get("/body").body) }
end
