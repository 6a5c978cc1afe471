-- As on the Alliance's clusters: partition `default` is none, and, where there are accounts ($with_accounts), users ask
-- for def-x, while the associations are def-x_gpu and def-x_cpu.
local function wants_gpu(job)
  for _, key in ipairs({"tres_per_job", "tres_per_node", "tres_per_task", "tres_per_socket"}) do
    if job[key] ~= nil and string.find(job[key], "gpu") then return true end
  end
  return false
end

function slurm_job_submit(job, partitions, user)
  if job.partition == "default" then job.partition = "" end
  if not $with_accounts then return slurm.SUCCESS end
  if job.account == nil then
    slurm.log_user("You must specify an account (--account=def-someuser)")
    return slurm.ERROR
  end
  if not string.match(job.account, "_[gc]pu$$") then
    job.account = job.account .. (wants_gpu(job) and "_gpu" or "_cpu")
  end
  return slurm.SUCCESS
end

function slurm_job_modify(job, record, partitions, user) return slurm.SUCCESS end

return slurm
