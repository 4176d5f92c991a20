-- Health of mlop's objects for Argo CD. Connections and intents have the condition Ready, runs have Succeeded.
local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end

local function is(type, status)
  return conditions[type] ~= nil and conditions[type].status == status
end

local function health(status, type)
  local message = ""
  if conditions[type] ~= nil then
    message = conditions[type].reason .. ": " .. conditions[type].message
  end
  return {status = status, message = message}
end

-- The status describes an earlier spec, or nothing yet.
local observed = obj.status ~= nil and obj.status.observedGeneration or 0
if observed < (obj.metadata.generation or 0) then
  return {status = "Progressing", message = "the operator has not seen the newest spec yet"}
end
if is("Stalled", "True") then
  return health("Degraded", "Stalled")
end
if obj.spec ~= nil and obj.spec.suspend == true then
  return {status = "Suspended", message = "spec.suspend is true"}
end
if is("Succeeded", "True") and is("Accepted", "False") then
  return health("Degraded", "Accepted")
end
for _, type in ipairs({"Ready", "Succeeded"}) do
  if is(type, "True") then
    return health("Healthy", type)
  end
  -- What failed and is tried again may still succeed.
  if is(type, "False") and not is("Reconciling", "True") then
    return health("Degraded", type)
  end
end
return health("Progressing", conditions.Ready ~= nil and "Ready" or "Succeeded")
